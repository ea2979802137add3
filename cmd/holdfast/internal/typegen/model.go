package typegen

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// kind is what a value is.
type kind int

const (
	anything kind = iota
	boolean
	integer
	number
	text
	list
	dict
	record
	literal // one of values
	union   // one of several types
)

// typ is a type of a value.
type typ struct {
	kind     kind
	nullable bool
	elem     *typ     // of list and dict
	rec      *message // of record
	values   []any    // of literal: texts, numbers and booleans
	of       []typ    // of union
	name     string   // of literal: a name for it
}

// message is an object with declared members.
type message struct {
	name   string
	doc    string
	fields []field
	whole  bool // an absent one is made of its defaults: it needs nothing, and no condition decides
}

type field struct {
	key    string
	doc    string
	typ    typ
	always bool // it is in every document
	def    any  // the default, when has
	has    bool
	secret bool
}

// model is all that a schema declares, the document last.
type model struct {
	service  string
	messages []*message
}

// contains reports whether an object has another one in it, not behind a list or a map.
func (m *message) contains(other *message, seen map[*message]bool) bool {
	if seen[m] {
		return false
	}
	seen[m] = true
	for _, f := range m.fields {
		if f.typ.kind == record && (f.typ.rec == other || f.typ.rec.contains(other, seen)) {
			return true
		}
	}
	return false
}

// maxDepth ends references that lead to themselves, and maxTypes what they grow to.
const (
	maxDepth = 40
	maxTypes = 20_000
)

type builder struct {
	root   map[string]any
	model  *model
	byRef  map[string]*message
	names  map[string]bool
	budget int
	// The agent fills in no defaults in the elements of arrays and free objects, and in
	// unions: what an object there does not have to have may be absent.
	inside int             // such values around the present one
	loose  map[string]bool // the references of objects in them
}

// element runs f for the type of a value without defaults.
func (b *builder) element(f func() typ) typ {
	b.inside++
	defer func() { b.inside-- }()
	return f()
}

func parse(service string, schema []byte) (*model, error) {
	root, err := conf.ParseSchema(schema)
	if err != nil {
		return nil, err
	}
	loose := map[string]bool{}
	for {
		known := len(loose)
		b := builder{root: root, model: &model{service: service}, byRef: map[string]*message{}, names: map[string]bool{}, budget: maxTypes, loose: loose}
		top := b.resolve(root, map[string]bool{})
		title, _ := top["title"].(string)
		if pascal(title) == "" {
			title = service + " config"
		}
		b.message(top, title, "#", 0)
		if len(loose) == known { // all messages were made with the same knowledge
			return b.model, nil
		}
	}
}

// resolve merges what $ref and allOf lead to into one schema.
func (b *builder) resolve(s map[string]any, seen map[string]bool) map[string]any {
	out := map[string]any{}
	var add func(from map[string]any, depth int)
	add = func(from map[string]any, depth int) {
		if depth > maxDepth {
			return
		}
		if ref, ok := from["$ref"].(string); ok && !seen[ref] {
			seen[ref] = true
			if target, ok := b.lookup(ref); ok {
				add(target, depth+1)
			}
		}
		if all, ok := from["allOf"].([]any); ok {
			for _, part := range all {
				if p, ok := part.(map[string]any); ok {
					add(p, depth+1)
				}
			}
		}
		for k, v := range from {
			switch k {
			case "$ref", "allOf":
			case "properties":
				merged := map[string]any{}
				for _, m := range []any{out[k], v} {
					m, _ := m.(map[string]any)
					for name, p := range m {
						merged[name] = p
					}
				}
				out[k] = merged
			case "required":
				had, _ := out[k].([]any)
				more, _ := v.([]any)
				out[k] = append(had[:len(had):len(had)], more...)
			default:
				out[k] = v
			}
		}
	}
	add(s, 0)
	return out
}

// lookup follows a reference into the same document.
func (b *builder) lookup(ref string) (map[string]any, bool) {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil, false
	}
	var at any = b.root
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if part == "" {
			continue
		}
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := at.(type) {
		case map[string]any:
			at = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			at = v[i]
		default:
			return nil, false
		}
	}
	m, ok := at.(map[string]any)
	return m, ok
}

// message makes a type of an object. ref is where it stands, so that it is one type.
func (b *builder) message(s map[string]any, name, ref string, depth int) *message {
	if b.inside > 0 {
		b.loose[ref] = true
	}
	if m, ok := b.byRef[ref]; ok {
		return m
	}
	if b.loose[ref] {
		b.inside++
		defer func() { b.inside-- }()
	}
	m := &message{name: b.unique(pascal(name)), doc: textOf(s, "description")}
	b.byRef[ref] = m
	properties, _ := s["properties"].(map[string]any)
	required := map[string]bool{}
	for _, r := range asList(s["required"]) {
		if name, ok := r.(string); ok {
			required[name] = true
		}
	}
	for _, key := range conf.SortedKeys(properties) {
		p, ok := properties[key].(map[string]any)
		if !ok {
			p = map[string]any{}
		}
		m.fields = append(m.fields, b.field(key, p, required[key], m.name, ref+"/properties/"+key, depth))
	}
	m.whole = true
	for _, f := range m.fields {
		if f.always && !f.has && !(f.typ.kind == record && f.typ.rec.whole) {
			m.whole = false
		}
	}
	for _, condition := range []string{"anyOf", "oneOf", "if", "not", "dependentRequired", "dependentSchemas", "minProperties"} {
		if _, ok := s[condition]; ok {
			m.whole = false
		}
	}
	b.model.messages = append(b.model.messages, m)
	return m
}

func (b *builder) field(key string, s map[string]any, required bool, owner, ref string, depth int) field {
	whole := b.resolve(s, map[string]bool{})
	f := field{key: key, doc: textOf(whole, "description")}
	f.typ = b.typeOf(s, owner+" "+key, ref, depth+1)
	f.def, f.has = whole["default"]
	f.secret = whole["x-secret"] == true || whole["writeOnly"] == true || whole["format"] == "password"
	if f.has && f.def == nil {
		f.typ.nullable = true
	}
	if n, ok := f.def.(json.Number); ok && f.typ.kind == integer { // 1.0 is an integer to a schema
		if x, err := n.Float64(); err == nil && x == math.Trunc(x) && math.Abs(x) < conf.MaxInteger {
			f.def = json.Number(strconv.FormatInt(int64(x), 10))
		}
	}
	switch {
	case f.secret: // only who may read it has it
		f.def, f.has = nil, false
	case required || f.has && b.inside == 0:
		f.always = true
	case b.inside > 0:
	case f.typ.kind == record && !f.typ.nullable && complete(f.typ.rec):
		f.always = true
	}
	return f
}

// complete reports whether an object may be made of nothing.
func complete(m *message) bool { return m.whole }

func (b *builder) typeOf(s map[string]any, name, ref string, depth int) typ {
	if b.budget--; depth > maxDepth || b.budget < 0 {
		return typ{}
	}
	if target, ok := s["$ref"].(string); ok {
		ref = target
		if i := strings.LastIndexByte(target, '/'); i >= 0 && len(target) > i+1 {
			name = target[i+1:]
		}
	}
	if all := asList(s["allOf"]); len(all) == 1 { // a reference with words around it
		if only, ok := all[0].(map[string]any); ok && s["properties"] == nil && only["$ref"] != nil {
			return b.typeOf(only, name, ref, depth+1)
		}
	}
	w := b.resolve(s, map[string]bool{})
	if title := textOf(w, "title"); pascal(title) != "" && w["properties"] != nil {
		name = title
	}
	if values, ok := literals(w); ok {
		return b.literals(values, name)
	}
	for _, k := range []string{"anyOf", "oneOf"} {
		if parts := asList(w[k]); len(parts) > 0 && w["properties"] == nil {
			return b.union(parts, name, ref+"/"+k, depth)
		}
	}
	types := asList(w["type"])
	if t, ok := w["type"].(string); ok {
		types = []any{t}
	}
	if len(types) == 0 && w["properties"] != nil {
		types = []any{"object"}
	}
	var out []typ
	nullable := false
	for _, t := range types {
		if t == "null" {
			nullable = true
			continue
		}
		out = append(out, b.single(t, w, name, ref, depth))
	}
	return join(out, nullable)
}

func (b *builder) single(t any, w map[string]any, name, ref string, depth int) typ {
	switch t {
	case "boolean":
		return typ{kind: boolean}
	case "integer":
		return typ{kind: integer}
	case "number":
		return typ{kind: number}
	case "string":
		return typ{kind: text}
	case "array":
		elem := typ{}
		if items, ok := w["items"].(map[string]any); ok && w["prefixItems"] == nil {
			elem = b.element(func() typ { return b.typeOf(items, name+" item", ref+"/items", depth+1) })
		}
		return typ{kind: list, elem: &elem}
	case "object":
		if properties, ok := w["properties"].(map[string]any); ok && len(properties) > 0 {
			return typ{kind: record, rec: b.message(w, name, ref, depth+1)}
		}
		elem := typ{}
		if more, ok := w["additionalProperties"].(map[string]any); ok {
			elem = b.element(func() typ { return b.typeOf(more, name+" value", ref+"/additionalProperties", depth+1) })
		}
		return typ{kind: dict, elem: &elem}
	default:
		return typ{}
	}
}

// union is a value that has one of several types.
func (b *builder) union(parts []any, name, ref string, depth int) typ {
	var out []typ
	nullable := false
	models := 0
	for _, p := range parts {
		if s, _ := p.(map[string]any); s["type"] != "null" {
			models++
		}
	}
	if models > 1 {
		b.inside++
		defer func() { b.inside-- }()
	}
	for i, p := range parts {
		s, ok := p.(map[string]any)
		if !ok {
			return typ{}
		}
		if s["type"] == "null" {
			nullable = true
			continue
		}
		part := b.typeOf(s, name, ref+"/"+strconv.Itoa(i), depth+1)
		nullable = nullable || part.nullable
		part.nullable = false
		out = append(out, part)
	}
	return join(out, nullable)
}

// join makes one type of alternatives.
func join(parts []typ, nullable bool) typ {
	for _, p := range parts {
		if p.kind == anything {
			return typ{} // null is a value of any type
		}
	}
	switch len(parts) {
	case 0:
		return typ{}
	case 1:
		parts[0].nullable = parts[0].nullable || nullable
		return parts[0]
	}
	return typ{kind: union, of: parts, nullable: nullable}
}

// literals returns the values of enum or const.
func literals(w map[string]any) ([]any, bool) {
	if v, ok := w["const"]; ok {
		return []any{v}, true
	}
	values := asList(w["enum"])
	return values, len(values) > 0
}

func (b *builder) literals(values []any, name string) typ {
	out := typ{kind: literal, name: pascal(name)}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			out.nullable = true
		case string, bool:
			out.values = append(out.values, v)
		case json.Number:
			if strings.ContainsAny(v.String(), ".eE") {
				return typ{kind: number, nullable: out.nullable}
			}
			out.values = append(out.values, v)
		default:
			return typ{}
		}
	}
	if len(out.values) == 0 {
		return typ{}
	}
	return out
}

func (b *builder) unique(name string) string {
	for n := 1; ; n++ {
		out := name
		if n > 1 {
			out += strconv.Itoa(n)
		}
		if !b.names[strings.ToLower(out)] {
			b.names[strings.ToLower(out)] = true
			return out
		}
	}
}

func asList(v any) []any { l, _ := v.([]any); return l }

func textOf(s map[string]any, member string) string { t, _ := s[member].(string); return t }
