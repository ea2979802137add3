package foreign

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Secret is a value that is not shown. It prints as asterisks.
type Secret struct {
	Path  conf.Path
	Why   string // why it is taken for one, "" when the schema says so
	value any    // nil when the files have none
}

// String is for messages and logs.
func (s Secret) String() string { return s.Path.Key() + "=" + conf.Masked }

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// HasValue reports whether the files have a value.
func (s Secret) HasValue() bool { return s.value != nil && s.value != "" }

// WithText returns the secret with what a person has typed.
func (s Secret) WithText(typed string) Secret {
	s.value = typed
	return s
}

// Result is a document with its secrets apart.
type Result struct {
	Values  map[string]any // of JSON
	Secrets []Secret       // in the order of their keys
	Schema  map[string]any // inferred; nil when the service has one
	Hidden  []conf.Path    // values that the schema has in plain and that may be secrets
	Notes   []string
}

// Document is the values with those secrets that have a value.
func (r *Result) Document() map[string]any {
	doc := r.Values
	for _, s := range r.Secrets {
		if s.HasValue() {
			doc = s.Path.With(doc, s.value)
		}
	}
	return doc
}

// Choice is what a person says of keys that are guessed wrong.
type Choice struct {
	Secret, Plain []string // dotted keys, also of objects
	used          map[string]bool
}

// find returns which list has the key of a path, or one that it is below.
func (c *Choice) find(at conf.Path) (secret, plain bool) {
	below := func(list []string) bool {
		return slices.ContainsFunc(list, func(key string) bool {
			k := at.Key()
			hit := k == key || strings.HasPrefix(k, key+".") || at.Quoted() == key
			if hit {
				c.used[key] = true
			}
			return hit
		})
	}
	return below(c.Secret), below(c.Plain)
}

func (c *Choice) unused() error {
	for _, key := range append(slices.Clone(c.Secret), c.Plain...) {
		if !c.used[key] {
			return conf.Errorf(conf.CodeUsage, "the files have no value %q", conf.Clip(key)).WithHint("name it as the diff does")
		}
	}
	return nil
}

// inference makes a schema of the values of a document.
type inference struct {
	choice  Choice
	notes   notes
	secrets []Secret
	any     bool // a name needs x-keys
}

// Infer makes a schema for the document: the types of its values, all of them required, and
// nothing else allowed. What no file can tell, such as ranges and enumerations, is not
// guessed.
func (d *Document) Infer(choice Choice) (*Result, error) {
	choice.used = map[string]bool{}
	in := inference{choice: choice, notes: d.notes}
	values, schema := in.object(d.values, nil, false)
	if err := in.choice.unused(); err != nil {
		return nil, err
	}
	if in.any {
		schema["x-keys"] = "any"
	}
	in.explain(d)
	return &Result{Values: values, Secrets: in.secrets, Schema: schema, Notes: in.notes.lines()}, nil
}

// object splits an object into its plain values and its schema. hidden says that the name
// above it means secrets.
func (in *inference) object(m map[string]any, at conf.Path, hidden bool) (values, schema map[string]any) {
	values = map[string]any{}
	properties := map[string]any{}
	required := []any{}
	for _, name := range conf.SortedKeys(m) {
		if conf.CheckKey(name) != nil || strings.Contains(name, ".") {
			in.any = true
		}
		path := append(at[:len(at):len(at)], name)
		v := m[name]
		secret, plain := in.choice.find(path)
		below := secret || !plain && (hidden || secretName(name, false))
		if sub, ok := v.(map[string]any); ok && len(sub) > 0 {
			rest, s := in.object(sub, path, below)
			properties[name] = s
			if len(rest) > 0 {
				values[name] = rest
				required = append(required, name)
			}
			continue
		}
		if v != nil && (secret || !plain && (hidden && !isBool(v) || guessed(name, v))) {
			properties[name] = in.secret(path, v, secret, hidden)
			continue
		}
		if v == nil && !plain && (below || secretName(name, true)) {
			properties[name] = map[string]any{"type": "string", "x-secret": true}
			in.secrets = append(in.secrets, Secret{Path: path, Why: "its name"})
			continue
		}
		values[name] = in.plain(v, path)
		properties[name] = in.schemaOf(values[name], name, path)
		required = append(required, name)
	}
	schema = map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		schema["required"] = required
	}
	return values, schema
}

func isBool(v any) bool { _, ok := v.(bool); return ok }

// secret takes a value out of the document.
func (in *inference) secret(path conf.Path, v any, chosen, hidden bool) map[string]any {
	s := Secret{Path: path, value: untyped(v)}
	name := path[len(path)-1]
	_, fromSecret := v.(sealed)
	switch {
	case chosen:
		s.Why = "--secret"
	case fromSecret:
		s.Why = "a Secret of Kubernetes"
	case hidden || secretName(name, true):
		s.Why = "its name"
	default:
		s.Why = "its value"
	}
	in.secrets = append(in.secrets, s)
	out := in.schemaOf(s.value, name, path)
	delete(out, "format")
	out["x-secret"] = true
	return out
}

// untyped makes text of what a format without types has: a secret is not a number because
// it looks like one.
func untyped(v any) any {
	switch v := v.(type) {
	case text:
		return string(v)
	case sealed:
		return string(v)
	default:
		return v
	}
}

// plain is a value with its type.
func (in *inference) plain(v any, at conf.Path) any {
	t, ok := v.(text)
	if !ok {
		if s, ok := v.(sealed); ok {
			return string(s)
		}
		return v
	}
	out := typed(string(t))
	if _, still := out.(string); still && isNumber(string(t)) {
		in.notes.add("it stays text, which as a number would be spelled differently", at.Key())
	}
	return out
}

// pathName is a name that says that its value is one of a file.
var pathName = []string{"path", "file", "dir", "directory"}

// schemaOf is the schema of one value.
func (in *inference) schemaOf(v any, name string, at conf.Path) map[string]any {
	switch v := v.(type) {
	case nil:
		in.notes.add("it is null, which tells no type: the schema takes any value", at.Key())
		return map[string]any{}
	case bool:
		return map[string]any{"type": "boolean"}
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return map[string]any{"type": "number"}
		}
		return map[string]any{"type": "integer"}
	case []any:
		out := map[string]any{"type": "array"}
		if items := in.items(v, at); items != nil {
			out["items"] = items
		}
		return out
	case map[string]any:
		return map[string]any{"type": "object"} // an empty one, or one in an array
	default:
		out := map[string]any{"type": "string"}
		s, _ := v.(string)
		if list := words(name); len(list) > 0 && slices.Contains(pathName, list[len(list)-1]) && (strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./")) {
			out["format"] = "path"
		}
		return out
	}
}

// items is the schema of the elements of an array, nil when they have nothing in common.
func (in *inference) items(list []any, at conf.Path) map[string]any {
	types := map[string]bool{}
	var objects []map[string]any
	var arrays []any
	for _, e := range list {
		switch e := e.(type) {
		case map[string]any:
			types["object"] = true
			objects = append(objects, e)
			in.names(e)
		case []any:
			types["array"] = true
			arrays = append(arrays, e...)
		case nil:
			types["null"] = true
		default:
			t, _ := in.schemaOf(e, "", at)["type"].(string)
			types[t] = true
		}
	}
	if types["number"] {
		delete(types, "integer")
	}
	nullable := types["null"]
	delete(types, "null")
	if len(types) != 1 {
		return nil
	}
	kind := conf.SortedKeys(types)[0]
	out := map[string]any{"type": kind}
	if nullable {
		out["type"] = []any{kind, "null"}
	}
	switch kind {
	case "array":
		if items := in.items(arrays, at); items != nil {
			out["items"] = items
		}
	case "object":
		in.members(out, objects, at)
	}
	return out
}

// members adds what all objects of an array have in common.
func (in *inference) members(out map[string]any, objects []map[string]any, at conf.Path) {
	values := map[string][]any{}
	for _, o := range objects {
		for k, v := range o {
			values[k] = append(values[k], v)
		}
	}
	properties, required := map[string]any{}, []any{}
	for _, name := range conf.SortedKeys(values) {
		properties[name] = map[string]any{}
		if s := in.items(values[name], append(at[:len(at):len(at)], name)); s != nil {
			properties[name] = s
		}
		if len(values[name]) == len(objects) {
			required = append(required, name)
		}
	}
	out["properties"], out["additionalProperties"] = properties, false
	if len(required) > 0 {
		out["required"] = required
	}
}

// names looks for names in an array that need x-keys.
func (in *inference) names(m map[string]any) {
	for name, v := range m {
		if conf.CheckKey(name) != nil || strings.Contains(name, ".") {
			in.any = true
		}
		if sub, ok := v.(map[string]any); ok {
			in.names(sub)
		}
	}
}

// explain adds what holds for the whole document.
func (in *inference) explain(d *Document) {
	if in.any {
		var keys []string
		collect(d.values, nil, &keys)
		for _, k := range keys {
			in.notes.add(`the schema says "x-keys": "any" for such names`, k)
		}
	}
}

// collect lists the keys whose names the default rule does not admit.
func collect(v any, at conf.Path, out *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range conf.SortedKeys(v) {
			path := append(at[:len(at):len(at)], name)
			if conf.CheckKey(name) != nil || strings.Contains(name, ".") {
				*out = append(*out, path.Key())
			}
			collect(v[name], path, out)
		}
	case []any:
		for _, e := range v {
			collect(e, at, out)
		}
	}
}
