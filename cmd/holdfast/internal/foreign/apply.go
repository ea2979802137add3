package foreign

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Apply reads the document by the fields of a schema that exists: text becomes what the
// field takes, and its secrets are those of the schema. The agent checks the rest.
func (d *Document) Apply(fields []conf.Field) (*Result, error) {
	a := applying{byPath: map[string]conf.Field{}, notes: d.notes}
	for _, f := range fields {
		a.byPath[conf.FieldPath(f).Quoted()] = f
	}
	values := a.object(d.values, nil)
	if len(a.bad) > 0 {
		e := conf.Errorf(conf.CodeInvalid, "%d of the values do not have the type of their field; nothing was changed", len(a.bad)).
			WithHint("correct them in the file, or use --infer-schema to replace the schema")
		e.Details = a.bad
		return nil, e
	}
	return &Result{Values: values, Secrets: a.secrets, Hidden: a.hidden, Notes: a.notes.lines()}, nil
}

type applying struct {
	byPath  map[string]conf.Field
	notes   notes
	secrets []Secret
	hidden  []conf.Path
	bad     []conf.FieldError
}

func (a *applying) object(m map[string]any, at conf.Path) map[string]any {
	out := map[string]any{}
	for _, name := range conf.SortedKeys(m) {
		path := append(at[:len(at):len(at)], name)
		f, isField := a.byPath[path.Quoted()]
		sub, isObject := m[name].(map[string]any)
		switch {
		case isField && f.IsSecret:
			a.secret(f, path, m[name])
		case isObject && !isField:
			if rest := a.object(sub, path); len(rest) > 0 || len(sub) == 0 {
				out[name] = rest
			}
		default:
			if guessed(name, m[name]) {
				a.hidden = append(a.hidden, path)
				a.notes.add("it looks like a secret, and the schema has it as a plain value: x-secret makes it one", path.Key())
			}
			v, ok := untyped(m[name]), true
			if t, isText := m[name].(text); isText {
				v, ok = asField(f, string(t))
			}
			if !ok {
				a.bad = append(a.bad, conf.FieldError{Key: path.Key(), Message: "is not " + strings.Join(f.JSONTypes, " or ") + typeName(f)})
				continue
			}
			out[name] = v
		}
	}
	return out
}

func typeName(f conf.Field) string {
	if len(f.JSONTypes) > 0 {
		return ""
	}
	return string(f.Type)
}

func (a *applying) secret(f conf.Field, path conf.Path, v any) {
	if f.SecretSource != nil && *f.SecretSource == conf.SourceEnv {
		a.notes.add("it comes from the environment of each agent and is not imported: set "+f.Env+" there", path.Key())
		return
	}
	s := Secret{Path: path, value: untyped(v)}
	if t, ok := s.value.(string); ok && !slices.Contains(f.JSONTypes, "string") && len(f.JSONTypes) > 0 {
		typed, ok := asField(f, t)
		if !ok {
			a.bad = append(a.bad, conf.FieldError{Key: path.Key(), Message: "is not " + strings.Join(f.JSONTypes, " or ")})
			return
		}
		s.value = typed
	}
	a.secrets = append(a.secrets, s)
}

// asField reads text as a field takes it. Of a field that is not known, or of any type, it
// is what its spelling says.
func asField(f conf.Field, s string) (v any, ok bool) {
	types := f.JSONTypes
	if len(types) == 0 {
		switch f.Type {
		case conf.TypeString, conf.TypePath, conf.TypeEnum, conf.TypeSecret:
			types = []string{"string"}
		case conf.TypeBoolean:
			types = []string{"boolean"}
		case conf.TypeInteger:
			types = []string{"integer"}
		case conf.TypeFloat:
			types = []string{"number"}
		default:
			return typed(s), true
		}
	}
	takes := func(t string) bool { return slices.Contains(types, t) }
	if takes("boolean") {
		switch strings.ToLower(s) {
		case "true", "yes", "on", "1", "t", "y":
			if s != "1" || !takes("integer") && !takes("number") {
				return true, true
			}
		case "false", "no", "off", "0", "f", "n":
			if s != "0" || !takes("integer") && !takes("number") {
				return false, true
			}
		}
	}
	if v, err := conf.ParseJSON([]byte(s), conf.MaxDocument); err == nil {
		switch v := v.(type) {
		case json.Number:
			whole := !strings.ContainsAny(v.String(), ".eE")
			if takes("number") || takes("integer") && whole {
				return v, true
			}
		case []any:
			if takes("array") {
				return v, true
			}
		case map[string]any:
			if takes("object") {
				return v, true
			}
		case nil:
			if takes("null") {
				return nil, true
			}
		}
	}
	if takes("number") {
		if f, err := strconv.ParseFloat(s, 64); err == nil && !strings.ContainsAny(s, "xXpP_iInN") {
			return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), true
		}
	}
	if takes("string") {
		return s, true
	}
	return nil, s == "" && takes("null")
}
