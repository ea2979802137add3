package dialect

import "slices"

// allowNullDefaults lets a property be null whose default is null: Python writes
// "int = None" as an integer with that default, and its own dump has the null.
func allowNullDefaults(s map[string]any) {
	props, _ := s["properties"].(map[string]any)
	for _, v := range props {
		p, ok := v.(map[string]any)
		if !ok {
			continue
		}
		if d, has := p["default"]; has && d == nil {
			allowNull(p)
		}
	}
}

func allowNull(p map[string]any) {
	switch t := p["type"].(type) {
	case string:
		if t != "null" {
			p["type"] = []any{t, "null"}
		}
	case []any:
		if !slices.Contains(t, any("null")) {
			p["type"] = append(slices.Clone(t), "null")
		}
	default:
		wrapNull(p)
		return
	}
	if list, ok := p["enum"].([]any); ok && !slices.Contains(list, nil) {
		p["enum"] = append(slices.Clone(list), nil)
	}
}

// wrapNull makes null an alternative of a schema that refers to another one.
func wrapNull(p map[string]any) {
	inner := map[string]any{}
	for _, k := range []string{"$ref", "allOf", "anyOf", "oneOf"} {
		v, ok := p[k]
		if !ok {
			continue
		}
		if list, _ := v.([]any); slices.ContainsFunc(list, isNullType) {
			return
		}
		inner[k] = v
	}
	if len(inner) == 0 {
		return
	}
	for k := range inner {
		delete(p, k)
	}
	p["anyOf"] = []any{inner, map[string]any{"type": "null"}}
}

func isNullType(v any) bool {
	s, _ := v.(map[string]any)
	list, _ := s["type"].([]any)
	return s["type"] == "null" || slices.Contains(list, any("null"))
}
