package schema

import (
	"encoding/json"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

// fastValidator recognizes most valid documents. All others go to the library, which
// takes a microsecond or two for each field, in every write, and which names the
// errors. It is an object of declared members, or one value: a number in a range, a
// string, one of some words, or a boolean.
type fastValidator struct {
	object   bool
	members  map[string]*fastValidator
	required []string
	closed   bool // no other members are allowed

	types                                        []string
	minimum, maximum, exclusiveMin, exclusiveMax *float64
	minLength, maxLength                         *int
	pattern                                      jsonschema.Regexp
	enum                                         map[string]bool // nil: any

	fallback *jsonschema.Schema // validates the value instead, unless nil
}

// The supported keywords, by the names of the library's fields. A subschema with
// any other one is left to the library.
var (
	annotations    = []string{"DraftVersion", "Location", "ID", "Anchor", "Types", "Title", "Description", "Default", "Comment", "ReadOnly", "WriteOnly", "Examples", "Deprecated"}
	objectKeywords = fieldsExcept(append([]string{"Required", "Properties", "AdditionalProperties"}, annotations...))
	valueKeywords  = fieldsExcept(append([]string{"Enum", "Minimum", "Maximum", "ExclusiveMinimum", "ExclusiveMaximum", "MinLength", "MaxLength", "Pattern"}, annotations...))
)

// otherFields are the fields of a subschema that must be empty, by their place.
type otherFields []int

func fieldsExcept(names []string) (others otherFields) {
	t := reflect.TypeFor[jsonschema.Schema]()
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && !slices.Contains(names, f.Name) {
			others = append(others, i)
		}
	}
	return others
}

// hasOnly reports whether s has none of the other fields.
func hasOnly(s *jsonschema.Schema, others otherFields) bool {
	v := reflect.ValueOf(s).Elem()
	return !slices.ContainsFunc(others, func(i int) bool { return !isEmpty(v.Field(i)) })
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// newFastValidator returns the validator of a compiled schema, nil for none.
func newFastValidator(root *jsonschema.Schema, nodes []*jsonschema.Schema) *fastValidator {
	for _, s := range nodes {
		if s.DynamicRef != nil || s.RecursiveRef != nil { // their target depends on the path to them
			return nil
		}
	}
	if p := newFastNode(root); p.object {
		return p
	}
	return nil
}

func newFastNode(s *jsonschema.Schema) *fastValidator {
	if s.Types == nil {
		return &fastValidator{fallback: s}
	}
	types := s.Types.ToStrings()
	if slices.Equal(types, []string{"object"}) && hasOnly(s, objectKeywords) {
		p := &fastValidator{object: true, members: map[string]*fastValidator{}, required: s.Required}
		switch allowed := s.AdditionalProperties.(type) {
		case nil:
		case bool:
			p.closed = !allowed
		default:
			return &fastValidator{fallback: s}
		}
		for name, m := range s.Properties {
			p.members[name] = newFastNode(m)
		}
		return p
	}
	if !hasOnly(s, valueKeywords) || slices.Contains(types, "object") || slices.Contains(types, "array") {
		return &fastValidator{fallback: s}
	}
	exact := true
	limit := func(r *big.Rat) *float64 {
		if r == nil {
			return nil
		}
		f, ok := r.Float64()
		exact = exact && ok
		return &f
	}
	p := &fastValidator{
		types: types, minLength: s.MinLength, maxLength: s.MaxLength, pattern: s.Pattern,
		minimum: limit(s.Minimum), maximum: limit(s.Maximum),
		exclusiveMin: limit(s.ExclusiveMinimum), exclusiveMax: limit(s.ExclusiveMaximum),
	}
	if !exact {
		return &fastValidator{fallback: s}
	}
	if s.Enum != nil {
		p.enum = map[string]bool{}
		for _, v := range s.Enum.Values {
			word, ok := v.(string)
			if !ok {
				return &fastValidator{fallback: s}
			}
			p.enum[word] = true
		}
	}
	return p
}

// valid reports whether v is valid for certain.
func (p *fastValidator) valid(v any) bool {
	if p.fallback != nil {
		return p.fallback.Validate(v) == nil
	}
	if p.object {
		return p.validObject(v)
	}
	switch v := v.(type) {
	case string:
		return slices.Contains(p.types, "string") && p.validText(v)
	case bool:
		return p.enum == nil && slices.Contains(p.types, "boolean")
	case nil:
		return p.enum == nil && slices.Contains(p.types, "null")
	case json.Number:
		return p.enum == nil && p.validNumber(string(v))
	default:
		return false
	}
}

func (p *fastValidator) validObject(v any) bool {
	doc, ok := v.(map[string]any)
	if !ok {
		return false
	}
	for _, name := range p.required {
		if _, ok := doc[name]; !ok {
			return false
		}
	}
	for name, v := range doc {
		m := p.members[name]
		if m == nil {
			if p.closed {
				return false
			}
			continue
		}
		if !m.valid(v) {
			return false
		}
	}
	return true
}

func (p *fastValidator) validText(s string) bool {
	if p.enum != nil && !p.enum[s] {
		return false
	}
	if p.minLength != nil || p.maxLength != nil {
		n := utf8.RuneCountInString(s)
		if (p.minLength != nil && n < *p.minLength) || (p.maxLength != nil && n > *p.maxLength) {
			return false
		}
	}
	return p.pattern == nil || p.pattern.MatchString(s)
}

func (p *fastValidator) validNumber(text string) bool {
	whole := isShortInteger(text)
	if !slices.Contains(p.types, "number") && (!whole || !slices.Contains(p.types, "integer")) {
		return false
	}
	if p.minimum == nil && p.maximum == nil && p.exclusiveMin == nil && p.exclusiveMax == nil {
		return true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	// Rounding keeps the order: when f is on one side of a limit, so is the number.
	// When they are equal, the number is certain only if f is exact.
	inside := func(a, b *float64, strict bool) bool { return *a < *b || (!strict && whole && *a == *b) }
	return (p.minimum == nil || inside(p.minimum, &f, false)) && (p.maximum == nil || inside(&f, p.maximum, false)) &&
		(p.exclusiveMin == nil || inside(p.exclusiveMin, &f, true)) && (p.exclusiveMax == nil || inside(&f, p.exclusiveMax, true))
}

// isShortInteger reports whether text is an integer of at most 15 digits, without a
// fraction or an exponent: a float64 has its exact value.
func isShortInteger(text string) bool {
	return jsonscan.Digits(strings.TrimPrefix(text, "-"), 15)
}
