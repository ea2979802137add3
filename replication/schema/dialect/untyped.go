package dialect

// addObjectTypes says "type": "object" where a schema leaves it out: a value with
// declared properties is an object, as its author means it. JSON Schema itself lets
// such a value be anything, and the properties would then be no fields, without
// defaults and limits. It changes schemas of values only, not those that are applied
// to the value of another one (allOf, if, not), and none that names other types.
func addObjectTypes(v any) {
	s, ok := v.(map[string]any)
	if !ok {
		return
	}
	for k, sub := range s {
		switch m, _ := sub.(map[string]any); {
		case Map[k] && k != "dependentSchemas" && k != "dependencies":
			for _, child := range m {
				addObjectType(child)
				addObjectTypes(child)
			}
		case Map[k]:
			for _, child := range m {
				addObjectTypes(child)
			}
		case One[k] && m != nil:
			if k == "items" || k == "additionalProperties" {
				addObjectType(m)
			}
			addObjectTypes(m)
		case List[k]:
			list, _ := sub.([]any)
			for _, child := range list {
				addObjectTypes(child)
			}
		}
	}
}

// addObjectType adds the type to one schema, with null when that is its default.
func addObjectType(v any) {
	s, ok := v.(map[string]any)
	if !ok {
		return
	}
	if props, _ := s["properties"].(map[string]any); len(props) == 0 || namesTypes(s) {
		return
	}
	if d, ok := s["default"]; ok && d == nil {
		s["type"] = []any{"object", "null"}
		return
	}
	s["type"] = "object"
}

// namesTypes reports whether a schema, or an alternative of it, says which values it
// is about.
func namesTypes(s map[string]any) bool {
	for _, k := range []string{"type", "$ref", "enum", "const"} {
		if _, ok := s[k]; ok {
			return true
		}
	}
	for _, k := range []string{"anyOf", "oneOf", "allOf"} {
		list, _ := s[k].([]any)
		for _, e := range list {
			if m, ok := e.(map[string]any); ok && namesTypes(m) {
				return true
			}
		}
	}
	return false
}
