package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxErrors limits the errors that one result lists.
const maxErrors = 100

// Effective returns the document that a service reads: the stored values, over the
// defaults of the schema, without secrets. Values are decoded JSON
// (conf.ParseObject) and are not modified; the result shares nothing with them.
//
// The second result lists all errors, one a key, sorted by key; it is nil for a
// valid document.
func (s *Schema) Effective(values map[string]any) (map[string]any, []conf.FieldError) {
	doc := s.root.applyDefaults(values)
	x := explainer{doc: doc, root: s.root, known: s.byKey}
	if path := findExtremeNumber(doc, nil); path != nil {
		x.add(path, nil, numberRule, "")
		return doc, x.details()
	}
	if why := checkExtent(measure(doc, s.unique), s.costs); why != "" {
		x.add(nil, nil, why, "")
		return doc, x.details()
	}
	if !s.fastValid(doc) {
		x.run(s.validate)
	}
	x.checkExtraNames(s.rule, s.root, doc)
	x.checkSpellings(s.leaves, doc)
	return doc, x.details()
}

// fastValid reports true for most valid documents, and for no other.
func (s *Schema) fastValid(doc map[string]any) (ok bool) {
	defer func() {
		if recover() != nil { // a fault of the library: explainer.run reports it
			ok = false
		}
	}()
	return s.fast != nil && s.fast.valid(doc)
}

// applyDefaults copies values and adds the defaults. It leaves secrets out.
func (o *object) applyDefaults(values map[string]any) map[string]any {
	out := make(map[string]any, max(len(values), len(o.props)))
	for name, v := range values {
		p := o.props[name]
		switch {
		case p == nil:
			out[name] = clone(v)
		case p.isSecret():
		default:
			out[name] = p.applyDefaults(v)
		}
	}
	for _, name := range o.names {
		p := o.props[name]
		if _, ok := values[name]; !ok && p.hasDefault && !p.isSecret() {
			out[name] = clone(p.def)
		}
	}
	return out
}

func (p *prop) applyDefaults(v any) any {
	if m, ok := v.(map[string]any); ok && p.object != nil {
		return p.object.applyDefaults(m)
	}
	return clone(v)
}

// checkExtraNames rejects names that the schema allows, but that no key can have.
func (x *explainer) checkExtraNames(rule nameRule, o *object, doc map[string]any) {
	for _, name := range conf.SortedKeys(doc) {
		if o.props[name] == nil && x.known[name] == nil && !rule.allows(name) {
			x.add([]string{name}, nil, "bad name: "+rule.String()+rule.wayOut(name), "")
		}
	}
}

// checkSpellings rejects a value that has the key of a field and is not its value:
// every reader and writer of that key would have the one or the other.
func (x *explainer) checkSpellings(leaves []*prop, doc map[string]any) {
	dotted := hasDottedName(doc)
	for _, p := range leaves {
		if len(p.path) == 1 && p.field.Path == nil || !dotted && p.field.Path == nil {
			continue
		}
		for _, other := range conf.Spellings(doc, p.field.Key) {
			if !slices.Equal(other, p.path) {
				x.addSpelling(p, other)
			}
		}
	}
}

func (x *explainer) addSpelling(p *prop, other conf.Path) {
	text := "must be written as nested objects: " + nested(p.path)
	if p.field.Path != nil {
		text = "must be written as " + nested(p.path) + ", not as " + nested(other)
	}
	x.add(p.path, nil, text, "")
}

// hasDottedName reports whether a member of v, at any depth of objects, has a dot in
// its name.
func hasDottedName(v map[string]any) bool {
	for name, e := range v {
		if sub, _ := e.(map[string]any); strings.Contains(name, ".") || hasDottedName(sub) {
			return true
		}
	}
	return false
}

// nested returns how a path is written in a document.
func nested(path []string) string {
	var b strings.Builder
	for _, name := range path {
		fmt.Fprintf(&b, "{%q: ", name)
	}
	return b.String() + "..." + strings.Repeat("}", len(path))
}

// numberText returns the text of a number, "" for any other value.
func numberText(v any) string {
	n, _ := v.(json.Number)
	return string(n)
}
