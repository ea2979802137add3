package schema

import (
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// MaxFields is the number of fields that one schema may declare.
const MaxFields = 5000

// Schema is the compiled schema of one service.
type Schema struct {
	service string
	*model
}

// model is a compiled document. Services with the same document share it.
type model struct {
	rule     nameRule
	validate *jsonschema.Schema
	fast     *fastValidator // nil: the library validates every document
	root     *object
	leaves   []*prop // sorted by key
	byKey    map[string]*prop
	costs    []float64 // see graph.costs
	declared int       // see graph.declaredDepth
	unique   bool      // elements of some array must be unique

	patternMemory int // estimated bytes of its compiled patterns
	memory        int // estimated bytes of all of it
}

// object is a JSON object with declared properties: the root, or a nested one.
type object struct {
	props map[string]*prop
	names []string // sorted
}

// prop is one declared property, a leaf or a nested object.
type prop struct {
	name       string
	path       []string
	field      conf.Field // of a leaf; Key is set for a nested object too
	object     *object    // nil for a leaf
	bounds     bounds
	required   bool
	hasDefault bool // has a default
	implied    bool // the default is that of the properties
	def        any  // the default, complete; immutable

	checks []*jsonschema.Schema // of a secret: the schemas of its value
}

func (p *prop) isSecret() bool { return p.field.IsSecret }

// Fields returns the metadata of all fields, sorted by key. The caller owns the
// slice; what its elements point to is shared and must not be changed.
func (s *Schema) Fields() []conf.Field {
	out := make([]conf.Field, len(s.leaves))
	for i, p := range s.leaves {
		out[i] = s.fieldOf(p)
	}
	return out
}

// Field returns the field of a dotted key.
func (s *Schema) Field(key string) (conf.Field, bool) {
	p, ok := s.byKey[key]
	if !ok {
		return conf.Field{}, false
	}
	return s.fieldOf(p), true
}

// fieldOf is the field of a leaf, as one of the service.
func (s *Schema) fieldOf(p *prop) conf.Field {
	f := p.field
	f.Service = s.service
	return f
}

// lookup follows a path of member names, which may contain dots.
func lookup(doc map[string]any, path []string) (any, bool) {
	for i, name := range path {
		v, ok := doc[name]
		if !ok {
			return nil, false
		}
		if i == len(path)-1 {
			return v, true
		}
		if doc, ok = v.(map[string]any); !ok {
			return nil, false
		}
	}
	return nil, false
}

// clone copies the containers of a JSON value.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := slices.Clone(v)
		for i, e := range out {
			out[i] = clone(e)
		}
		return out
	default:
		return v
	}
}
