package ofrep

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// flags are the flags of one document. They are made at the first question.
type flags struct {
	doc      *localapi.Document
	variant  string
	metadata []byte

	values func() (*values, error)
	all    func() (*bulk, error)
}

// values are the effective document, and what its schema says of its numbers.
type values struct {
	object  map[string]any
	isFloat func(key string) bool
}

// bulk is the response with all flags, but for its end.
type bulk struct {
	body []byte
	tag  string
}

// metadata is what each answer says of where a value is from. Its values are no objects:
// the protocol has none there.
type metadata struct {
	Service string `json:"service,omitempty"`
	Version uint64 `json:"version,omitempty"`
	Epoch   string `json:"config_epoch,omitempty"`
}

func newFlags(doc *localapi.Document, schemas *schema.Cache) *flags {
	f := &flags{
		doc: doc, variant: "v" + strconv.FormatUint(doc.Version(), 10),
		metadata: encode(metadata{doc.Service(), doc.Version(), doc.Epoch()}),
	}
	f.values = sync.OnceValues(func() (*values, error) {
		object, err := conf.ParseObject(doc.Public(), len(doc.Public()))
		return &values{object, floats(doc, schemas)}, err
	})
	f.all = sync.OnceValues(f.makeBulk)
	return f
}

// floats returns what tells which keys are numbers, and not integers, by the schema. The
// store has 2 and 2.0 as the same.
func floats(doc *localapi.Document, schemas *schema.Cache) func(key string) bool {
	if len(doc.Schema()) == 0 {
		return func(string) bool { return false }
	}
	s, err := schemas.Get(doc.Service(), doc.Schema())
	if err != nil {
		return func(string) bool { return false }
	}
	// The keys, and not the schema, which takes hundreds of times their memory.
	keys := map[string]bool{}
	for _, f := range s.Fields() {
		// A field of any type at all may as well have integers.
		any := slices.Contains(f.JSONTypes, "object") || slices.Contains(f.JSONTypes, "array")
		if f.Type == conf.TypeFloat || slices.Contains(f.JSONTypes, "number") && !any {
			keys[f.Key] = true
		}
	}
	return func(key string) bool { return keys[key] }
}

// one returns the value of a key; not ok when there is none.
func (v *values) one(key string) (value any, ok bool) {
	if len(key) > conf.MaxKey {
		return nil, false
	}
	if p, quoted := conf.ParseQuoted(key); quoted {
		return p.Find(v.object)
	}
	return conf.Lookup(v.object, key)
}

// each calls f with all keys and their values, objects and then their members.
func (v *values) each(f func(key string, value any)) {
	seen := map[string]bool{}
	var walk func(prefix string, object map[string]any)
	walk = func(prefix string, object map[string]any) {
		for _, name := range conf.SortedKeys(object) {
			key := prefix + name
			if name == "" || len(key) > conf.MaxKey {
				continue
			}
			if value, ok := conf.Lookup(v.object, key); ok && !seen[key] {
				seen[key] = true
				f(key, value)
			}
			if sub, ok := object[name].(map[string]any); ok {
				walk(key+".", sub)
			}
		}
	}
	walk("", v.object)
}

// text appends the JSON of the value of a key.
func (v *values) text(b []byte, key string, value any) []byte {
	switch value := value.(type) {
	case json.Number:
		b = append(b, value...)
		if v.isFloat(key) && !strings.ContainsAny(value.String(), ".eE") {
			b = append(b, ".0"...)
		}
		return b
	case map[string]any:
		b = append(b, '{')
		for i, name := range conf.SortedKeys(value) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, encode(name)...), ':')
			b = v.text(b, key+"."+name, value[name])
		}
		return append(b, '}')
	default:
		return append(b, encode(value)...)
	}
}

// evaluation appends the answer for a flag. A null has no value: the program takes its
// own default.
func (f *flags) evaluation(b []byte, v *values, key string, value any) []byte {
	b = append(append(b, `{"key":`...), encode(key)...)
	if value != nil {
		b = v.text(append(b, `,"value":`...), conf.PlainKey(key), value)
	}
	b = append(b, `,"reason":"STATIC","variant":"`+f.variant+`","metadata":`...)
	return append(append(b, f.metadata...), '}')
}

func (f *flags) makeBulk() (*bulk, error) {
	v, err := f.values()
	if err != nil {
		return nil, err
	}
	b := []byte(`{"flags":[`)
	v.each(func(key string, value any) {
		if _, array := value.([]any); array {
			return
		}
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = f.evaluation(b, v, key, value)
	})
	b = append(append(b, `],"metadata":`...), f.metadata...)
	sum := sha256.Sum256(b)
	return &bulk{b, `"` + tagPrefix(f.doc) + strconv.FormatUint(f.doc.Version(), 10) + "-" + hex.EncodeToString(sum[:8]) + `"`}, nil
}

// tagPrefix is what the tags of an epoch begin with; "" without an epoch.
func tagPrefix(doc *localapi.Document) string {
	if doc.Epoch() == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(doc.Epoch()))
	return hex.EncodeToString(sum[:4]) + "-"
}

// isLater reports whether an If-None-Match header names a later version of the epoch of
// doc than doc is.
func isLater(header []string, doc *localapi.Document) bool {
	prefix := tagPrefix(doc)
	if prefix == "" || len(header) != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(strings.TrimPrefix(header[0], "W/"), `"`+prefix)
	version, hash, found := strings.Cut(rest, "-")
	n, err := strconv.ParseUint(version, 10, 64)
	return ok && found && err == nil && len(hash) == 17 && hash[16] == '"' && n > doc.Version()
}

// encode is httperror.Marshal for values that cannot fail.
func encode(v any) []byte {
	b, err := httperror.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return b
}
