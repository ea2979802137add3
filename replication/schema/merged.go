package schema

import (
	"encoding/json"
	"slices"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// types is a set of JSON types. A number is an integer or a fraction.
type types uint8

const (
	isNull types = 1 << iota
	isBool
	isInt
	isFraction
	isString
	isArray
	isObject

	isNumber = isInt | isFraction
	anyType  = isNull | isBool | isNumber | isString | isArray | isObject
)

var typeNames = map[string]types{
	"null": isNull, "boolean": isBool, "integer": isInt, "number": isNumber,
	"string": isString, "array": isArray, "object": isObject,
}

// names returns the set as JSON Schema writes it.
func (t types) names() []string {
	var out []string
	for _, n := range []string{"array", "boolean", "integer", "number", "object", "string", "null"} {
		if n == "integer" && t&isNumber == isNumber || n == "number" && t&isNumber != isNumber {
			continue
		}
		if t&typeNames[n] == typeNames[n] {
			out = append(out, n)
		}
	}
	return out
}

func typeOf(v any) types {
	switch v := v.(type) {
	case nil:
		return isNull
	case bool:
		return isBool
	case string:
		return isString
	case []any:
		return isArray
	case map[string]any:
		return isObject
	case json.Number:
		if f, err := v.Float64(); err == nil && f == float64(int64(f)) {
			return isInt
		}
		return isFraction
	default:
		return 0
	}
}

// typesOf returns the types that a value of s can have.
func (c *compiler) typesOf(s *jsonschema.Schema) types {
	if t, ok := c.types[s]; ok {
		return t
	}
	t := anyType
	switch {
	case s.Bool != nil && !*s.Bool:
		t = 0
	case s.Types != nil:
		t = 0
		for _, n := range s.Types.ToStrings() {
			t |= typeNames[n]
		}
	}
	if s.Const != nil {
		t &= typeOf(*s.Const)
	}
	if s.Enum != nil {
		var e types
		for _, v := range s.Enum.Values {
			e |= typeOf(v)
		}
		t &= e
	}
	if s.Ref != nil {
		t &= c.typesOf(s.Ref)
	}
	for _, a := range s.AllOf {
		t &= c.typesOf(a)
	}
	for _, alts := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
		if len(alts) == 0 {
			continue
		}
		var e types
		for _, a := range alts {
			e |= c.typesOf(a)
		}
		t &= e
	}
	c.types[s] = t
	return t
}

// mergedSchema is the schema of one value: all subschemas that always apply to it,
// the outermost first, and the alternatives that may.
type mergedSchema struct {
	chain        []*jsonschema.Schema
	alternatives [][]*jsonschema.Schema // each a choice of two or more
	types        types
}

// mergeNodes follows references, allOf and the only branch besides null.
func (c *compiler) mergeNodes(list ...*jsonschema.Schema) mergedSchema {
	v := mergedSchema{types: anyType}
	var add func(s *jsonschema.Schema)
	add = func(s *jsonschema.Schema) {
		if slices.Contains(v.chain, s) {
			return
		}
		v.chain = append(v.chain, s)
		if s.Ref != nil {
			add(s.Ref)
		}
		for _, a := range s.AllOf {
			add(a)
		}
		for _, alts := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
			var real []*jsonschema.Schema
			for _, a := range alts {
				if c.typesOf(a)&^isNull != 0 {
					real = append(real, a)
				}
			}
			switch len(real) {
			case 0:
			case 1:
				add(real[0])
			default:
				v.alternatives = append(v.alternatives, real)
			}
		}
	}
	for _, s := range list {
		v.types &= c.typesOf(s)
		add(s)
	}
	return v
}

// text returns the first string of that keyword.
func (c *compiler) text(v mergedSchema, keyword string) (string, bool) {
	for _, s := range v.chain {
		if t, ok := c.raw(s)[keyword].(string); ok {
			return t, true
		}
	}
	return "", false
}

// member returns the first value of that keyword.
func (c *compiler) member(v mergedSchema, keyword string) (any, bool) {
	for _, s := range v.chain {
		if m, ok := c.raw(s)[keyword]; ok {
			return m, true
		}
	}
	return nil, false
}

// isSecret reports whether the value is a secret, or a leaf that contains one.
func (c *compiler) isSecret(v mergedSchema, leaf bool) bool {
	for _, s := range v.chain {
		if is, explicit := secretKeyword(c.raw(s)); explicit {
			return is
		}
	}
	for _, s := range v.chain {
		is, _ := secretKeyword(c.raw(s))
		if is || leaf && c.secretNodes[s] {
			return true
		}
	}
	return false
}

// allowed returns the values of an enumeration, or of a union of enumerations.
func (c *compiler) allowed(v mergedSchema) ([]any, bool) {
	for _, s := range v.chain {
		if s.Enum != nil {
			return s.Enum.Values, true
		}
		if s.Const != nil {
			return []any{*s.Const}, true
		}
	}
	for _, alts := range v.alternatives {
		var all []any
		for _, a := range alts {
			values, ok := c.allowed(c.mergeNodes(a))
			if !ok {
				all = nil
				break
			}
			all = append(all, values...)
		}
		if all != nil {
			return all, true
		}
	}
	return nil, false
}

// bounds are the limits of a number.
type bounds struct {
	min, max     *json.Number
	above, under bool // the limit itself is not allowed
}

// boundsOf returns the tightest limits of the chain.
func (c *compiler) boundsOf(v mergedSchema) bounds {
	var b bounds
	tighter := func(n json.Number, old *json.Number, sign float64, strict bool) bool {
		if old == nil {
			return true
		}
		x, _ := n.Float64()
		y, _ := old.Float64()
		return sign*x > sign*y || x == y && strict
	}
	for _, s := range v.chain {
		raw := c.raw(s)
		for _, k := range []string{"minimum", "exclusiveMinimum"} {
			strict := k != "minimum"
			if n, ok := raw[k].(json.Number); ok && tighter(n, b.min, 1, strict) {
				b.min, b.above = &n, strict
			}
		}
		for _, k := range []string{"maximum", "exclusiveMaximum"} {
			strict := k != "maximum"
			if n, ok := raw[k].(json.Number); ok && tighter(n, b.max, -1, strict) {
				b.max, b.under = &n, strict
			}
		}
	}
	return b
}

// String returns the allowed range, "" for none.
func (b bounds) String() string {
	switch {
	case b.min == nil && b.max == nil:
		return ""
	case b.max == nil && b.above:
		return "more than " + b.min.String()
	case b.max == nil:
		return "at least " + b.min.String()
	case b.min == nil && b.under:
		return "less than " + b.max.String()
	case b.min == nil:
		return "at most " + b.max.String()
	}
	from, to := b.min.String(), b.max.String()
	if b.above {
		from = "more than " + from
	}
	if b.under {
		to = "less than " + to
	}
	if b.above || b.under {
		return from + ", up to " + to
	}
	return from + " to " + to
}

// leafType maps the JSON types of a leaf to a conf.Type. It returns the JSON types
// too, unless that type implies them.
func leafType(t types, enum, path bool) (conf.Type, []string) {
	real := t &^ isNull
	var ct conf.Type
	implied := isString
	switch {
	case enum:
		ct = conf.TypeEnum
	case real == isString && path:
		ct = conf.TypePath
	case real == isInt:
		ct, implied = conf.TypeInteger, isInt
	case real != 0 && real&^isNumber == 0:
		ct, implied = conf.TypeFloat, isNumber
	case real == isBool:
		ct, implied = conf.TypeBoolean, isBool
	default:
		ct = conf.TypeString
	}
	if t == implied || ct == conf.TypeFloat && t == real {
		return ct, nil
	}
	return ct, t.names()
}
