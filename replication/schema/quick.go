package schema

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Most fields are a number in a range, a text, one of some words, or a switch.
// The library takes a microsecond or two for each of them, for every write. What
// stands here says of most valid documents that they are valid, and nothing of any
// others: those go to the library, which also has the words for what is wrong.

// quick is what can be checked quickly: an object of declared members, or one
// value.
type quick struct {
	object   bool
	members  map[string]*quick
	required []string
	closed   bool // no other members

	types                     []string
	least, most, above, under *float64
	shortest, longest         *int
	pattern                   jsonschema.Regexp
	words                     map[string]bool // nil: any

	library *jsonschema.Schema // asked when nothing else here is known
}

// Keywords that are understood here, by the names of the library's fields. A
// schema that has any other is left to the library.
var (
	annotations = []string{"DraftVersion", "Location", "ID", "Anchor", "Types", "Title", "Description", "Default", "Comment", "ReadOnly", "WriteOnly", "Examples", "Deprecated"}
	ofObjects   = append([]string{"Required", "Properties", "AdditionalProperties"}, annotations...)
	ofValues    = append([]string{"Enum", "Minimum", "Maximum", "ExclusiveMinimum", "ExclusiveMaximum", "MinLength", "MaxLength", "Pattern"}, annotations...)
)

// only says whether s has no keywords but those.
func only(s *jsonschema.Schema, fields []string) bool {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && !slices.Contains(fields, f.Name) && !empty(v.Field(i)) {
			return false
		}
	}
	return true
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// quickOf makes the quick check of a compiled schema; nil: there is none.
func quickOf(root *jsonschema.Schema, nodes []*jsonschema.Schema) *quick {
	for _, s := range nodes {
		if s.DynamicRef != nil || s.RecursiveRef != nil { // what they mean depends on the way to them
			return nil
		}
	}
	if p := quickNode(root); p.object {
		return p
	}
	return nil
}

func quickNode(s *jsonschema.Schema) *quick {
	if s.Types == nil {
		return &quick{library: s}
	}
	types := s.Types.ToStrings()
	if slices.Equal(types, []string{"object"}) && only(s, ofObjects) {
		p := &quick{object: true, members: map[string]*quick{}, required: s.Required}
		switch more := s.AdditionalProperties.(type) {
		case nil:
		case bool:
			p.closed = !more
		default:
			return &quick{library: s}
		}
		for name, m := range s.Properties {
			p.members[name] = quickNode(m)
		}
		return p
	}
	if !only(s, ofValues) || slices.Contains(types, "object") || slices.Contains(types, "array") {
		return &quick{library: s}
	}
	p := &quick{types: types, shortest: s.MinLength, longest: s.MaxLength, pattern: s.Pattern}
	for _, b := range []struct {
		bound **float64
		of    interface{ Float64() (float64, bool) }
		set   bool
	}{
		{&p.least, s.Minimum, s.Minimum != nil},
		{&p.most, s.Maximum, s.Maximum != nil},
		{&p.above, s.ExclusiveMinimum, s.ExclusiveMinimum != nil},
		{&p.under, s.ExclusiveMaximum, s.ExclusiveMaximum != nil},
	} {
		if !b.set {
			continue
		}
		f, exact := b.of.Float64()
		if !exact {
			return &quick{library: s}
		}
		*b.bound = &f
	}
	if s.Enum != nil {
		p.words = map[string]bool{}
		for _, v := range s.Enum.Values {
			word, ok := v.(string)
			if !ok {
				return &quick{library: s}
			}
			p.words[word] = true
		}
	}
	return p
}

// holds says whether v is surely valid.
func (p *quick) holds(v any) bool {
	if p.library != nil {
		return p.library.Validate(v) == nil
	}
	if p.object {
		return p.holdsObject(v)
	}
	switch v := v.(type) {
	case string:
		return slices.Contains(p.types, "string") && p.holdsText(v)
	case bool:
		return p.words == nil && slices.Contains(p.types, "boolean")
	case nil:
		return p.words == nil && slices.Contains(p.types, "null")
	case json.Number:
		return p.words == nil && p.holdsNumber(string(v))
	default:
		return false
	}
}

func (p *quick) holdsObject(v any) bool {
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
		if !m.holds(v) {
			return false
		}
	}
	return true
}

func (p *quick) holdsText(s string) bool {
	if p.words != nil && !p.words[s] {
		return false
	}
	if p.shortest != nil || p.longest != nil {
		n := utf8.RuneCountInString(s)
		if (p.shortest != nil && n < *p.shortest) || (p.longest != nil && n > *p.longest) {
			return false
		}
	}
	return p.pattern == nil || p.pattern.MatchString(s)
}

func (p *quick) holdsNumber(text string) bool {
	whole := wholeNumber(text)
	if !slices.Contains(p.types, "number") && (!whole || !slices.Contains(p.types, "integer")) {
		return false
	}
	if p.least == nil && p.most == nil && p.above == nil && p.under == nil {
		return true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	// Rounding keeps the order: f on one side of a bound means that the number is
	// there, too. Where they are equal, only a number that f is exactly is sure.
	inside := func(a, b *float64, strict bool) bool { return *a < *b || (!strict && whole && *a == *b) }
	return (p.least == nil || inside(p.least, &f, false)) && (p.most == nil || inside(&f, p.most, false)) &&
		(p.above == nil || inside(p.above, &f, true)) && (p.under == nil || inside(&f, p.under, true))
}

// wholeNumber says whether text is an integer of at most 15 digits, without a
// fraction or an exponent: a float64 holds it exactly.
func wholeNumber(text string) bool {
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	if text == "" || len(text) > 15 {
		return false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}
