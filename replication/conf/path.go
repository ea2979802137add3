package conf

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Path is the names of the members that lead to a value, the outermost first. A name
// may contain dots, so a key such as log.level can mean {"log.level": ...} and
// {"log": {"level": ...}}. One rule decides for every reader and writer of keys:
//
//  1. A name in double quotes, with the escapes of a JSON string, is one name, and no
//     other dot of such a key is part of a name: "log.level", a."b.c".d.
//  2. A field of the schema has its key for itself: ResolveKey returns its path, and
//     Schema.Effective rejects a document that has another path with this key.
//  3. For any other key, the longest name counts, at every level, that the schema
//     declares or the document has.
//  4. What neither knows is split at every dot.
type Path []string

// Key returns the key of a path: its names with dots between them. Paths with the same
// key are told apart by rule 2 or by Quoted.
func (p Path) Key() string { return strings.Join(p, ".") }

// Quoted returns the key that means this path whatever the schema and the document
// have: with quotes around the names that need them, or around the first one.
func (p Path) Quoted() string {
	out := make([]string, len(p))
	quote := func(i int) {
		text, _ := json.Marshal(p[i]) // a string has a JSON form
		out[i] = string(text)
	}
	quoted := len(p) < 2
	for i, name := range p {
		out[i] = name
		if name == "" || strings.ContainsAny(name, `."`) {
			quote(i)
			quoted = true
		}
	}
	if !quoted {
		quote(0)
	}
	return strings.Join(out, ".")
}

// KeyIn returns the key that a reader of a document finds this path by: without quotes
// unless that leads to another value.
func (p Path) KeyIn(doc map[string]any) string {
	key := p.Key()
	if slices.Equal(find(doc, key), p) {
		return key
	}
	return p.Quoted()
}

// PlainKey returns a key without the quotes around its names.
func PlainKey(key string) string {
	if p, ok := ParseQuoted(key); ok {
		return p.Key()
	}
	return key
}

// Nest returns the document that has value at the path.
func (p Path) Nest(value any) map[string]any {
	for i := len(p) - 1; i >= 0; i-- {
		value = map[string]any{p[i]: value}
	}
	out, _ := value.(map[string]any)
	return out
}

// With returns a document with value at the path. It shares its other members with doc,
// which is not changed.
func (p Path) With(doc map[string]any, value any) map[string]any {
	out := maps.Clone(doc)
	if out == nil {
		out = map[string]any{}
	}
	if len(p) > 1 {
		sub, _ := doc[p[0]].(map[string]any)
		value = p[1:].With(sub, value)
	}
	out[p[0]] = value
	return out
}

// Find returns the value at the path.
func (p Path) Find(doc map[string]any) (v any, ok bool) {
	v = doc
	for _, name := range p {
		m, isObject := v.(map[string]any)
		if !isObject {
			return nil, false
		}
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, ok
}

// ParseQuoted reads a key with names in quotes. ok is false for any other key.
func ParseQuoted(key string) (p Path, ok bool) {
	if !strings.Contains(key, `"`) {
		return nil, false
	}
	for {
		name, rest := key, ""
		if i := strings.IndexByte(key, '.'); i >= 0 {
			name, rest = key[:i], key[i:]
		}
		if strings.HasPrefix(key, `"`) {
			end := 1
			for end < len(key) && key[end] != '"' {
				if key[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(key) || json.Unmarshal([]byte(key[:end+1]), &name) != nil {
				return nil, false
			}
			rest = key[end+1:]
		} else if name == "" || strings.Contains(name, `"`) {
			return nil, false
		}
		p = append(p, name)
		if rest == "" {
			return p, true
		}
		if rest[0] != '.' {
			return nil, false
		}
		key = rest[1:]
	}
}

// FieldPath returns the path of a field.
func FieldPath(f Field) Path {
	if len(f.Path) > 0 {
		return f.Path
	}
	return strings.Split(f.Key, ".")
}

// ResolveKey returns the path that a key means to a writer, by the fields of the
// schema and a document. doc may be nil.
func ResolveKey(key string, fields []Field, doc map[string]any) Path {
	if p, ok := ParseQuoted(key); ok {
		return p
	}
	declared := map[string]any{}
	for _, f := range fields {
		p := FieldPath(f)
		if f.Key == key {
			return p
		}
		at := declared
		for _, name := range p[:len(p)-1] {
			sub, ok := at[name].(map[string]any)
			if !ok {
				sub = map[string]any{}
				at[name] = sub
			}
			at = sub
		}
		if _, ok := at[p[len(p)-1]]; !ok {
			at[p[len(p)-1]] = nil
		}
	}
	for _, known := range []map[string]any{declared, doc} {
		if p := find(known, key); p != nil {
			return p
		}
	}
	return place(key, declared, doc)
}

// place splits a key that leads to no value yet.
func place(key string, declared, doc map[string]any) Path {
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], '.') {
		name := key[:end]
		sub, isDeclared := declared[name]
		was, exists := doc[name]
		if !isDeclared && !exists {
			continue
		}
		if end == len(key) {
			return Path{name}
		}
		below, _ := sub.(map[string]any)
		docBelow, _ := was.(map[string]any)
		return append(Path{name}, place(key[end+1:], below, docBelow)...)
	}
	return strings.Split(key, ".")
}

// find returns the path of an existing value: the first name as long as possible.
func find(doc map[string]any, key string) Path {
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], '.') {
		v, ok := doc[key[:end]]
		switch sub, _ := v.(map[string]any); {
		case !ok:
		case end == len(key):
			return Path{key}
		default:
			if p := find(sub, key[end+1:]); p != nil {
				return append(Path{key[:end]}, p...)
			}
		}
	}
	return nil
}

// Spellings returns every path of a document that has this key.
func Spellings(doc map[string]any, key string) (all []Path) {
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], '.') {
		v, ok := doc[key[:end]]
		switch sub, _ := v.(map[string]any); {
		case !ok:
		case end == len(key):
			all = append(all, Path{key})
		default:
			for _, p := range Spellings(sub, key[end+1:]) {
				all = append(all, append(Path{key[:end]}, p...))
			}
		}
	}
	return all
}

// Lookup returns the value of a key in a document that is valid under its schema, which
// has no second path with the key of a field.
func Lookup(doc map[string]any, key string) (any, bool) {
	if v, ok := doc[key]; ok {
		return v, true
	}
	if p, ok := ParseQuoted(key); ok {
		return p.Find(doc)
	}
	if p := find(doc, key); p != nil {
		return p.Find(doc)
	}
	return nil, false
}

// Merge adds the members of src to dst, objects into objects.
func Merge(dst, src map[string]any) {
	for k, v := range src {
		if sub, ok := v.(map[string]any); ok {
			if old, ok := dst[k].(map[string]any); ok {
				Merge(old, sub)
				continue
			}
		}
		dst[k] = v
	}
}

// SortedKeys returns the keys of m in ascending order.
func SortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
