package schema

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema/pattern"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// explainer turns the library's tree of errors into one sentence a key. The
// sentences quote numbers of the document, but no strings: a string may be a
// secret in the wrong place.
type explainer struct {
	doc   any              // the value that was validated
	root  *object          // its declared properties,
	own   *prop            // or the property that has it as its value
	known map[string]*prop // all fields, for hints at unknown ones
	meta  bool             // the value is a schema, which has no secrets
	found []finding
}

// finding is one violation. The allowed range goes between head and tail.
type finding struct {
	loc        []string
	kind       jsonschema.ErrorKind
	head, tail string
	text       string // head and tail
}

func (x *explainer) add(loc []string, k jsonschema.ErrorKind, head, tail string) {
	x.found = append(x.found, finding{loc: slices.Clone(loc), kind: k, head: head, tail: tail, text: head + exclusive(k) + tail})
}

func exclusive(k jsonschema.ErrorKind) string {
	switch k.(type) {
	case *kind.ExclusiveMinimum, *kind.ExclusiveMaximum:
		return " (exclusive)"
	}
	return ""
}

// sortFindings sorts findings, which come in the order of Go's maps.
func sortFindings(fs []finding) {
	slices.SortStableFunc(fs, func(a, b finding) int {
		return cmp.Or(slices.Compare(a.loc, b.loc), cmp.Compare(a.text, b.text))
	})
}

// run validates the value against s and adds the violations.
func (x *explainer) run(s *jsonschema.Schema) {
	defer func() {
		// A panic of the library rejects the document; it must not end the process.
		if r := recover(); r != nil {
			x.add(nil, nil, "cannot be validated", "")
		}
	}()
	err := s.Validate(x.doc)
	if ve, ok := err.(*jsonschema.ValidationError); ok { //nolint:errorlint // the library wraps nothing
		x.visit(ve)
	} else if err != nil {
		x.add(nil, nil, "cannot be validated", "")
	}
}

func (x *explainer) visit(e *jsonschema.ValidationError) {
	loc := e.InstanceLocation
	switch k := e.ErrorKind.(type) {
	case nil:
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, c := range e.Causes {
			x.visit(c)
		}
	case *kind.AnyOf:
		x.addAlternatives(e)
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			x.add(loc, k, "matches more than one of the alternatives, where it must match one", "")
			return
		}
		x.addAlternatives(e)
	case *kind.Required:
		for _, name := range k.Missing {
			x.add(append(slices.Clone(loc), name), k, "is required", "")
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			x.add(append(slices.Clone(loc), name), k, "unknown key", "")
		}
	case *kind.DependentRequired:
		x.addRequiredWith(loc, k, k.Missing, k.Prop)
	case *kind.Dependency:
		x.addRequiredWith(loc, k, k.Missing, k.Prop)
	case *kind.PropertyNames:
		x.addPropertyName(e, k)
	default:
		x.addKind(loc, k)
	}
}

func (x *explainer) addRequiredWith(loc []string, k jsonschema.ErrorKind, missing []string, with string) {
	for _, name := range missing {
		x.add(append(slices.Clone(loc), name), k, "is required together with "+conf.Clip(with), "")
	}
}

// addPropertyName adds a bad name of a member. The library may have overwritten the
// instance location; then the location in the schema gives the key.
func (x *explainer) addPropertyName(e *jsonschema.ValidationError, k *kind.PropertyNames) {
	loc := e.InstanceLocation
	obj, _ := valueAt(x.doc, loc).(map[string]any)
	if _, ok := obj[k.Property]; !ok {
		loc = nil
		toks := pointer(e.SchemaURL)
		for i := 0; i+1 < len(toks); i++ {
			if toks[i] == "properties" {
				i++
				loc = append(loc, toks[i])
			}
		}
	}
	sub := explainer{doc: k.Property, meta: x.meta}
	for _, c := range e.Causes {
		sub.visit(c)
	}
	why := "is not allowed"
	if len(sub.found) > 0 {
		why = sub.found[0].text
	}
	x.add(loc, k, fmt.Sprintf("name %q %s", conf.Clip(k.Property), why), "")
}

// addKind adds an error without causes.
func (x *explainer) addKind(loc []string, e jsonschema.ErrorKind) {
	got := ""
	if n := numberText(valueAt(x.doc, loc)); n != "" {
		got = ", got " + conf.Clip(n)
	}
	head, tail := "", ""
	switch k := e.(type) {
	case *kind.Type:
		head = "must be " + joinOr(articles(k.Want)) + x.gotKind(loc, k)
	case *kind.Enum:
		head, tail = oneOf(k.Want), got
	case *kind.Const:
		head, tail = oneOf([]any{k.Want}), got
	case *kind.Minimum:
		head, tail = "must be at least "+rat(k.Want), got
	case *kind.Maximum:
		head, tail = "must be at most "+rat(k.Want), got
	case *kind.ExclusiveMinimum:
		head, tail = "must be greater than "+rat(k.Want), got
	case *kind.ExclusiveMaximum:
		head, tail = "must be less than "+rat(k.Want), got
	case *kind.MultipleOf:
		head, tail = "must be a multiple of "+rat(k.Want), got
	case *kind.Pattern:
		head = "must match " + k.Want
		if s, ok := valueAt(x.doc, loc).(string); ok && len(s) > pattern.MaxText {
			head += fmt.Sprintf(" and be at most %d bytes long", pattern.MaxText)
		}
	case *kind.Format:
		head = "must be a valid " + k.Want
		if x.meta && k.Err != nil {
			head += ": " + k.Err.Error()
		}
	case *kind.MinLength:
		head, tail = "must be at least "+count(k.Want, "character")+" long", fmt.Sprintf(", got %d", k.Got)
	case *kind.MaxLength:
		head, tail = "must be at most "+count(k.Want, "character")+" long", fmt.Sprintf(", got %d", k.Got)
	case *kind.MinItems:
		head, tail = "must have at least "+count(k.Want, "element"), fmt.Sprintf(", got %d", k.Got)
	case *kind.MaxItems:
		head, tail = "must have at most "+count(k.Want, "element"), fmt.Sprintf(", got %d", k.Got)
	case *kind.AdditionalItems:
		head = fmt.Sprintf("has %s too many", count(k.Count, "element"))
	case *kind.MinProperties:
		head, tail = "must have at least "+count(k.Want, "member"), fmt.Sprintf(", got %d", k.Got)
	case *kind.MaxProperties:
		head, tail = "must have at most "+count(k.Want, "member"), fmt.Sprintf(", got %d", k.Got)
	case *kind.UniqueItems:
		head = fmt.Sprintf("elements %d and %d are equal, where each must differ", k.Duplicates[0], k.Duplicates[1])
	case *kind.Contains:
		head = "lacks an element that the schema asks for"
	case *kind.MinContains:
		head, tail = "must have at least "+count(k.Want, "element")+" of the kind that the schema asks for", fmt.Sprintf(", got %d", len(k.Got))
	case *kind.MaxContains:
		head, tail = "must have at most "+count(k.Want, "element")+" of the kind that the schema asks for", fmt.Sprintf(", got %d", len(k.Got))
	case *kind.FalseSchema:
		head = "is not allowed"
		if p, rest := x.findProp(loc); len(rest) > 0 || p == nil {
			head = "unknown key"
		}
	case *kind.Not:
		head = "has a value that the schema rules out"
	default:
		head = "does not fit the schema"
	}
	x.add(loc, e, head, tail)
}

func (x *explainer) gotKind(loc []string, k *kind.Type) string {
	v := valueAt(x.doc, loc)
	if n := numberText(v); n != "" && slices.Contains(k.Want, "integer") {
		return ", got " + conf.Clip(n)
	}
	return ", got " + conf.KindOf(v)
}

// findProp follows loc through the declared properties. It returns the innermost
// one, and the rest of loc inside its value.
func (x *explainer) findProp(loc []string) (p *prop, rest []string) {
	p, o := x.own, x.root
	if p != nil {
		o = p.object
	}
	for len(loc) > 0 && o != nil {
		next, ok := o.props[loc[0]]
		if !ok {
			break
		}
		p, o, loc = next, next.object, loc[1:]
	}
	return p, loc
}

// details returns the findings as one error a key, sorted by key.
func (x *explainer) details() []conf.FieldError {
	if len(x.found) == 0 {
		return nil
	}
	sortFindings(x.found)
	byKey := map[string][]string{}
	for _, f := range x.found {
		key, msg := x.message(f)
		if have := byKey[key]; len(have) < 3 && !slices.Contains(have, msg) {
			byKey[key] = append(have, msg)
		}
	}
	keys := conf.SortedKeys(byKey)
	if len(keys) > maxErrors {
		keys = keys[:maxErrors]
	}
	out := make([]conf.FieldError, len(keys))
	for i, k := range keys {
		out[i] = conf.FieldError{Key: k, Message: strings.Join(byKey[k], "; ")}
	}
	return out
}

// message returns the key of a finding and its complete text.
func (x *explainer) message(f finding) (key, msg string) {
	p, rest := x.findProp(f.loc)
	if p != nil && p.object == nil {
		if len(rest) > 0 {
			return p.field.Key, suffix(rest) + " " + f.text
		}
		return p.field.Key, f.head + allowedIn(p, f.kind) + f.tail
	}
	key = ""
	if p != nil {
		key = p.field.Key
	}
	msg = f.text
	if len(rest) > 0 {
		if f.head == "unknown key" && len(rest) == 1 {
			msg = x.unknownKey(p, rest[0])
		}
		key = strings.TrimPrefix(key+"."+conf.Clip(strings.Join(rest, ".")), ".")
	}
	if key == "" {
		key = "(document)"
	}
	return key, msg
}

// allowedIn returns the whole range for a finding about one of its limits.
func allowedIn(p *prop, k jsonschema.ErrorKind) string {
	both := p.bounds.min != nil && p.bounds.max != nil
	switch k.(type) {
	case *kind.Minimum, *kind.Maximum:
		if both {
			return " (allowed " + p.bounds.String() + ")"
		}
	case *kind.ExclusiveMinimum, *kind.ExclusiveMaximum:
		if both {
			return " (exclusive; allowed " + p.bounds.String() + ")"
		}
		return exclusive(k)
	case *kind.Type:
		switch text := p.bounds.String(); {
		case text != "":
			return " (allowed " + text + ")"
		case len(p.field.Allowed) > 0:
			return " (allowed " + conf.Clip(strings.Join(p.field.Allowed, ", ")) + ")"
		}
	}
	return ""
}

// unknownKey lists the known keys next to an unknown one, and the most similar one.
func (x *explainer) unknownKey(p *prop, name string) string {
	if q, ok := x.known[name]; ok && p == nil {
		return "must be written as nested objects: " + nested(q.path)
	}
	o := x.root
	if p != nil {
		o = p.object
	}
	if o == nil || len(o.names) == 0 {
		return "unknown key"
	}
	msg := "unknown key; known keys: " + joinLimited(o.names)
	if near, ok := closest(name, o.names, min(len(name)-1, 1+len(name)/4)); ok {
		msg += " (did you mean " + near + "?)"
	}
	return msg
}

// suffix returns the text of a path inside a leaf: [2].rate.
func suffix(rest []string) string {
	var b strings.Builder
	for i, t := range rest {
		switch {
		case isIndex(t):
			b.WriteString("[" + t + "]")
		case i == 0:
			b.WriteString(conf.Clip(t))
		default:
			b.WriteString("." + conf.Clip(t))
		}
	}
	return b.String()
}

func valueAt(v any, loc []string) any {
	for _, tok := range loc {
		switch c := v.(type) {
		case map[string]any:
			v = c[tok]
		case []any:
			i, err := strconv.Atoi(tok)
			if err != nil || i < 0 || i >= len(c) {
				return nil
			}
			v = c[i]
		default:
			return nil
		}
	}
	return v
}

func oneOf(values []any) string {
	if len(values) == 1 {
		return "must be " + formatPlain(values[0])
	}
	words := make([]string, len(values))
	for i, v := range values[:min(len(values), maxNames)] {
		words[i] = formatPlain(v)
	}
	return "must be one of " + joinLimited(words)
}

// formatPlain formats a string without quotes, if it is not empty.
func formatPlain(v any) string {
	if s, ok := v.(string); ok && s != "" {
		return conf.Clip(s)
	}
	return formatValue(v)
}

func articles(types []string) []string {
	out := make([]string, len(types))
	for i, t := range types {
		switch t {
		case "null":
			out[i] = t
		case "integer", "array", "object":
			out[i] = "an " + t
		default:
			out[i] = "a " + t
		}
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func rat(r *big.Rat) string {
	f, _ := r.Float64()
	if f != 0 && (f < 1e-6 && f > -1e-6 || f >= conf.MaxInteger || f <= -conf.MaxInteger) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
