package dialect

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Keywords whose values are schemas, lists or maps of schemas; all other values are data.
var (
	One = set("additionalProperties", "unevaluatedProperties", "propertyNames", "items", "additionalItems",
		"unevaluatedItems", "contains", "contentSchema", "not", "if", "then", "else")
	List = set("allOf", "anyOf", "oneOf", "prefixItems", "items")
	Map  = set("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

const (
	draft4 = "http://json-schema.org/draft-04/schema"
	draft6 = "http://json-schema.org/draft-06/schema"
	draft7 = "http://json-schema.org/draft-07/schema#"
)

// maxSchemas bounds the walk; the compiler rejects a document with more.
const maxSchemas = 50000

// node is one subschema with its place in the document.
type node struct {
	schema map[string]any
	at     string // JSON pointer
	base   *url.URL
}

// walk calls f for every subschema, an outer one first.
func walk(doc map[string]any, base *url.URL, f func(n *node)) {
	count := 0
	var visit func(v any, at string, base *url.URL)
	visit = func(v any, at string, base *url.URL) {
		s, ok := v.(map[string]any)
		if count++; !ok || count > maxSchemas {
			return
		}
		n := &node{s, at, base}
		f(n)
		for _, k := range schemasIn(s) {
			here := at + "/" + escape(k)
			switch v := s[k].(type) {
			case map[string]any:
				if Map[k] {
					for _, name := range conf.SortedKeys(v) {
						visit(v[name], here+"/"+escape(name), n.base)
					}
				} else if One[k] {
					visit(v, here, n.base)
				}
			case []any:
				if List[k] {
					for i, e := range v {
						visit(e, here+"/"+strconv.Itoa(i), n.base)
					}
				}
			}
		}
	}
	visit(doc, "", base)
}

// schemasIn lists the keywords whose values are schemas, sorted. Most schemas have none.
func schemasIn(s map[string]any) (names []string) {
	for k, v := range s {
		switch v.(type) {
		case map[string]any, []any:
			if One[k] || List[k] || Map[k] {
				names = append(names, k)
			}
		}
	}
	slices.Sort(names)
	return names
}

func escape(name string) string {
	name = strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	return url.PathEscape(name)
}

// Canonical returns the RFC 8785 form of a schema that is about to be stored.
func Canonical(raw []byte) ([]byte, error) {
	doc, err := conf.ParseSchema(raw)
	if err != nil {
		return nil, err
	}
	walk(doc, nil, func(n *node) { clampBounds(n.schema) })
	return seal.Canonical(doc)
}

// Upgrade changes a parsed schema to one that package schema compiles.
func Upgrade(doc map[string]any) {
	text, _ := doc["$schema"].(string)
	old := strings.TrimSuffix(text, "#") == draft4
	if old || strings.TrimSuffix(text, "#") == draft6 {
		doc["$schema"] = draft7
	}
	walk(doc, nil, func(n *node) {
		if id, ok := n.schema["id"].(string); ok && old {
			delete(n.schema, "id")
			n.schema["$id"] = id
		}
		clampBounds(n.schema)
		exclusive(n.schema, "exclusiveMinimum", "minimum")
		exclusive(n.schema, "exclusiveMaximum", "maximum")
	})
	localize(doc)
	addObjectTypes(doc)
	walk(doc, nil, func(n *node) { allowNullDefaults(n.schema) })
}

// exclusive turns the boolean of draft-04 and OpenAPI into a limit.
func exclusive(s map[string]any, keyword, limit string) {
	strict, ok := s[keyword].(bool)
	if !ok {
		return
	}
	delete(s, keyword)
	if n, ok := s[limit]; ok && strict {
		s[keyword] = n
		delete(s, limit)
	}
}

// clampBounds replaces a limit beyond 2^53, as generators write it for 64-bit integers,
// by the largest integer that JSON keeps: no document can have one between the two. A
// limit of a length is left out.
func clampBounds(s map[string]any) {
	for _, b := range []struct {
		keyword, exclusive string
		sign               float64
		limit              json.Number
	}{
		{"maximum", "exclusiveMaximum", 1, json.Number(strconv.Itoa(conf.MaxInteger - 1))},
		{"minimum", "exclusiveMinimum", -1, json.Number(strconv.Itoa(1 - conf.MaxInteger))},
	} {
		if beyond(s[b.exclusive], b.sign) {
			delete(s, b.exclusive)
			if _, has := s[b.keyword]; !has {
				s[b.keyword] = b.limit
			}
		}
		if beyond(s[b.keyword], b.sign) {
			s[b.keyword] = b.limit
			if strict, ok := s[b.exclusive].(bool); ok && strict {
				delete(s, b.exclusive)
			}
		}
	}
	for _, k := range []string{"maxLength", "maxItems", "maxProperties", "maxContains"} {
		if beyond(s[k], 1) {
			delete(s, k)
		}
	}
}

// beyond reports whether v is a number that no document can have, above or below zero.
func beyond(v any, sign float64) bool {
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	f, err := n.Float64()
	return err == nil && sign*f >= conf.MaxInteger && sign*f < firstFloat
}

// firstFloat is the first number whose canonical form has an exponent.
const firstFloat = 1e21

// FindInteger returns the path of an integer beyond 2^53 in a schema that clampBounds
// left: a default or an enumerated value, which would be another one to many readers.
func FindInteger(v any, path []string) []string {
	switch v := v.(type) {
	case json.Number:
		if beyond(v, 1) || beyond(v, -1) {
			return append([]string{}, path...)
		}
	case map[string]any:
		for _, k := range conf.SortedKeys(v) {
			if p := FindInteger(v[k], append(path, k)); p != nil {
				return p
			}
		}
	case []any:
		for i, e := range v {
			if p := FindInteger(e, append(path, strconv.Itoa(i))); p != nil {
				return p
			}
		}
	}
	return nil
}
