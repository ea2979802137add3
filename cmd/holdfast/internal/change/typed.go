package change

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// assignment is one KEY=VALUE or KEY:=JSON of the command line.
type assignment struct {
	key  string
	text string
	json bool
}

func parseAssignments(cmd *cobra.Command, args []string) ([]assignment, error) {
	var out []assignment
	seen := map[string]bool{}
	for _, arg := range args {
		key, text, ok := cutAssignment(arg)
		if !ok || key == "" || key == ":" {
			return nil, cli.UsageError(cmd, "%q is not KEY=VALUE", arg).WithHint("write KEY=VALUE, or KEY:=JSON for a value in JSON; quote it for your shell")
		}
		a := assignment{key: key, text: text}
		if k, isJSON := strings.CutSuffix(key, ":"); isJSON {
			a.key, a.json = k, true
		}
		if seen[a.key] {
			return nil, cli.UsageError(cmd, "%s is given twice", a.key)
		}
		seen[a.key] = true
		out = append(out, a)
	}
	return out, nil
}

// cutAssignment cuts at the first "=" that is not in quotes.
func cutAssignment(arg string) (key, text string, ok bool) {
	quoted := false
	for i := range len(arg) {
		switch {
		case arg[i] == '"':
			quoted = !quoted
		case arg[i] == '=' && !quoted:
			return arg[:i], arg[i+1:], true
		}
	}
	return strings.Cut(arg, "=")
}

// Patch makes the merge patch of KEY=VALUE arguments, as the schema of the service types them.
func Patch(cmd *cobra.Command, c *client.Client, service string, args []string) ([]byte, error) {
	list, err := parseAssignments(cmd, args)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(list))
	for i, as := range list {
		keys[i] = as.key
	}
	fields, err := readFields(cmd.Context(), c, service, keys)
	if err != nil {
		return nil, err
	}
	return fields.patch(list)
}

// fieldSet is what the schema of a service says of its keys, and what is stored.
type fieldSet struct {
	service string
	fields  []conf.Field
	byKey   map[string]conf.Field
	stored  map[string]any
}

func newFieldSet(info conf.SchemaInfo) fieldSet {
	fs := fieldSet{service: info.Service, fields: info.Fields, byKey: make(map[string]conf.Field, len(info.Fields))}
	for _, f := range info.Fields {
		fs.byKey[f.Key] = f
	}
	return fs
}

// readFields reads the fields of a service and, when the paths of keys depend on them,
// its stored values.
func readFields(ctx context.Context, c *client.Client, service string, keys []string) (fieldSet, error) {
	info, err := c.Schema(ctx, service)
	if err != nil {
		return fieldSet{}, err
	}
	fs := newFieldSet(info)
	if !slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(k, ".") }) {
		return fs, nil
	}
	stored, err := c.Stored(ctx, service, 0)
	if conf.CodeOf(err) == conf.CodeNotFound {
		return fs, nil // it has no values yet
	}
	if err == nil {
		fs.stored, err = conf.ParseObject(stored.Config, 2*conf.MaxDocument)
	}
	return fs, err
}

// resolve returns the path of a key and the key of a field, without quotes.
func (fs fieldSet) resolve(key string) (conf.Path, string) {
	p := conf.ResolveKey(key, fs.fields, fs.stored)
	if f, ok := fs.byKey[p.Key()]; ok && slices.Equal(conf.FieldPath(f), p) {
		key = f.Key
	}
	return p, key
}

// patch makes one merge patch (RFC 7396) of all assignments. Its error has
// a detail for each bad one.
func (fs fieldSet) patch(list []assignment) ([]byte, error) {
	doc := map[string]any{}
	var bad []conf.FieldError
	for _, as := range list {
		var path conf.Path
		path, as.key = fs.resolve(as.key)
		v, err := fs.value(as)
		if err != nil {
			bad = append(bad, conf.FieldError{Key: as.key, Message: err.Error()})
			continue
		}
		conf.Merge(doc, path.Nest(v))
	}
	if bad != nil {
		e := conf.Errorf(conf.CodeInvalid, "%s: nothing was changed", cli.Plural(len(bad), "bad value")).
			WithHint("holdfast schema get %s --fields shows each key with its type and range", fs.service)
		e.Details = bad
		return nil, e
	}
	return values.Compact(doc)
}

// value turns what was typed into a JSON value of the field's type. Only
// the type is decided here; the agent checks ranges and patterns.
func (fs fieldSet) value(as assignment) (any, error) {
	f, known := fs.byKey[as.key]
	if as.json {
		v, err := conf.ParseJSON([]byte(as.text), conf.MaxDocument)
		if err != nil {
			return nil, err
		}
		if v == nil && known && len(f.Default) > 0 && string(f.Default) != "null" {
			return nil, fmt.Errorf("null in a change means back to the default, which is %s: say unset, or use edit to store a null", f.Default)
		}
		return v, nil
	}
	if !known {
		if like := fs.similar(as.key); like != "" {
			return nil, fmt.Errorf("unknown key; did you mean %s?", like)
		}
		return guess(as.text), nil
	}
	return typed(f, as.text)
}

// similar is the key that was probably meant, "" when none is like it. A key below a
// field of type object is like none: the schema may allow any there.
func (fs fieldSet) similar(key string) string {
	for i := range len(key) {
		if key[i] == '.' {
			if _, ok := fs.byKey[key[:i]]; ok {
				return ""
			}
		}
	}
	return cli.Nearest(key, conf.SortedKeys(fs.byKey))
}

// typed reads text as the type of f.
func typed(f conf.Field, text string) (any, error) {
	allowed := f.JSONTypes
	if len(allowed) == 0 {
		allowed = []string{implied[f.Type]}
	}
	if v, err := conf.ParseJSON([]byte(text), conf.MaxDocument); err == nil {
		kind := jsonType(v)
		if slices.Contains(allowed, kind) && kind != "string" || kind == "integer" && slices.Contains(allowed, "number") {
			return v, nil
		}
	}
	if slices.Contains(allowed, "string") || allowed[0] == "" {
		return text, nil
	}
	return nil, fmt.Errorf("%q is not %s", cli.Brief(text, 40), strings.Join(articles(allowed), " or "))
}

// implied is the JSON type of a field without JSONTypes.
var implied = map[conf.Type]string{
	conf.TypeString: "string", conf.TypeInteger: "integer", conf.TypeFloat: "number", conf.TypeBoolean: "boolean",
	conf.TypeEnum: "string", conf.TypePath: "string", conf.TypeSecret: "string",
}

func jsonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	default:
		return "object"
	}
}

func articles(types []string) []string {
	out := make([]string, len(types))
	for i, t := range types {
		switch t {
		case "null":
			out[i] = t
		case "boolean":
			out[i] = "true or false"
		case "integer", "array", "object":
			out[i] = "an " + t
		default:
			out[i] = "a " + t
		}
	}
	return out
}

// guess reads a value that no schema describes: JSON when it is, else a text.
func guess(text string) any {
	if v, err := conf.ParseJSON([]byte(text), conf.MaxDocument); err == nil {
		return v
	}
	return text
}
