package typegen

import (
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Languages are the values of --lang.
func Languages() []string { return []string{"python", "ts", "go"} }

// Generate writes the types of the schema of a service.
func Generate(language, service string, schema []byte) (string, error) {
	m, err := parse(service, schema)
	if err != nil {
		return "", err
	}
	switch language {
	case "python":
		return python(m), nil
	case "ts":
		return typescript(m), nil
	case "go":
		return golang(m)
	default:
		return "", conf.Errorf(conf.CodeUsage, "there are no types for %q", language).WithHint("use one of %s", strings.Join(Languages(), ", "))
	}
}

// defaults is the document of the defaults of an object; members without one are absent.
func defaults(m *message, depth int) map[string]any {
	out := map[string]any{}
	for _, f := range m.fields {
		switch {
		case f.has:
			out[f.key] = filled(f.typ, f.def, depth)
		case f.always && f.typ.kind == record && depth < maxDepth && complete(f.typ.rec):
			out[f.key] = defaults(f.typ.rec, depth+1)
		}
	}
	return out
}

// filled adds the defaults of the members to the default of an object.
func filled(t typ, v any, depth int) any {
	m, ok := v.(map[string]any)
	if !ok || t.kind != record || depth > maxDepth {
		return v
	}
	out := defaults(t.rec, depth+1)
	for k, x := range m {
		out[k] = x
		for _, f := range t.rec.fields {
			if f.key == k {
				out[k] = filled(f.typ, x, depth+1)
			}
		}
	}
	return out
}
