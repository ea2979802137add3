package typegen

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// pythonWords cannot be the name of a field: the keywords, and what the types are written
// with, which a class attribute of that name would hide.
var pythonWords = strings.Fields(`False None True and as assert async await break class continue def del elif else except
	finally for from global if import in is lambda nonlocal not or pass raise return try while with
	bool float int str _dataclasses _typing`)

// python writes dataclasses for Python 3.9.
func python(m *model) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by: holdfast schema types %s --lang python. Do not edit.\n", m.service)
	b.WriteString("from __future__ import annotations\n\nimport dataclasses as _dataclasses\nimport typing as _typing\n")
	p := pythonWriter{classes: map[string]bool{}}
	for _, msg := range m.messages {
		p.classes[p.class(msg)] = true
	}
	for _, msg := range m.messages {
		p.message(&b, msg)
	}
	return b.String()
}

type pythonWriter struct{ classes map[string]bool }

func (p pythonWriter) class(m *message) string {
	if slices.Contains(pythonWords, m.name) {
		return m.name + "_"
	}
	return m.name
}

func (p pythonWriter) names(m *message) map[string]string {
	used, out := namer{}, map[string]string{}
	var odd []field
	for _, f := range m.fields { // a key that is a name keeps it
		if p.isName(f.key) {
			out[f.key] = used.take(f.key)
		} else {
			odd = append(odd, f)
		}
	}
	for _, f := range odd {
		name := strings.Map(func(r rune) rune {
			if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '_'
		}, f.key)
		name = strings.TrimLeft(name, "_")
		if name == "" || name[0] >= '0' && name[0] <= '9' {
			name = "x" + name
		}
		if !p.isName(name) {
			name += "_"
		}
		out[f.key] = used.take(name)
	}
	return out
}

// isName reports whether a key can be the name of a field.
func (p pythonWriter) isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 0) {
			return false
		}
	}
	return s != "" && s[0] != '_' && !p.classes[s] && !slices.Contains(pythonWords, s)
}

func (p pythonWriter) message(b *strings.Builder, m *message) {
	b.WriteString("\n\n")
	for _, line := range comment(m.doc) {
		b.WriteString(strings.TrimRight("# "+line, " ") + "\n")
	}
	fmt.Fprintf(b, "@_dataclasses.dataclass\nclass %s:\n    _holdfast_extra = \"ignore\"  # a key that a newer schema adds\n", p.class(m))
	names := p.names(m)
	whole := func(f field) bool { return f.always && f.typ.kind == record && !f.typ.nullable && complete(f.typ.rec) }
	optional := func(f field) bool { return f.has || !f.always || whole(f) }
	fields := slices.Clone(m.fields)
	slices.SortStableFunc(fields, func(x, y field) int { // those without a default come first
		switch {
		case optional(x) == optional(y):
			return 0
		case optional(x):
			return 1
		default:
			return -1
		}
	})
	for _, f := range fields {
		for _, line := range comment(f.doc) {
			b.WriteString(strings.TrimRight("    # "+line, " ") + "\n")
		}
		t := f.typ
		if !f.always && !f.has && !whole(f) {
			t.nullable = true
		}
		var options []string
		switch {
		case f.has && mutable(f.def):
			options = append(options, "default_factory=lambda: "+p.value(f.typ, f.def))
		case f.has:
			options = append(options, "default="+p.value(f.typ, f.def))
		case whole(f):
			options = append(options, "default_factory=lambda: "+p.class(f.typ.rec)+"()")
		case !f.always:
			options = append(options, "default=None")
		}
		if f.secret {
			options = append(options, "repr=False")
		}
		if names[f.key] != f.key {
			options = append(options, fmt.Sprintf("metadata={\"key\": %s}", quoted(f.key)))
		}
		fmt.Fprintf(b, "    %s: %s", names[f.key], p.typ(t))
		if len(options) == 1 && strings.HasPrefix(options[0], "default=") {
			b.WriteString(" = " + strings.TrimPrefix(options[0], "default="))
		} else if len(options) > 0 {
			fmt.Fprintf(b, " = _dataclasses.field(%s)", strings.Join(options, ", "))
		}
		b.WriteString("\n")
	}
}

func mutable(v any) bool {
	switch v.(type) {
	case []any, map[string]any:
		return true
	}
	return false
}

func (p pythonWriter) typ(t typ) string {
	var out string
	switch t.kind {
	case boolean:
		out = "bool"
	case integer:
		out = "int"
	case number:
		out = "float"
	case text:
		out = "str"
	case list:
		out = "_typing.List[" + p.typ(*t.elem) + "]"
	case dict:
		out = "_typing.Dict[str, " + p.typ(*t.elem) + "]"
	case record:
		out = p.class(t.rec)
	case literal:
		var values []string
		for _, v := range t.values {
			values = append(values, p.value(t, v))
		}
		out = "_typing.Literal[" + strings.Join(values, ", ") + "]"
	case union:
		var parts []string
		for _, x := range t.of {
			parts = append(parts, p.typ(x))
		}
		out = "_typing.Union[" + strings.Join(parts, ", ") + "]"
	default:
		return "_typing.Any"
	}
	if t.nullable {
		return "_typing.Optional[" + out + "]"
	}
	return out
}

// value is a value of JSON as an expression.
func (p pythonWriter) value(t typ, v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		if t.kind == number && !strings.ContainsAny(v.String(), ".eE") {
			return v.String() + ".0"
		}
		return v.String()
	case []any:
		var parts []string
		elem := typ{}
		if t.kind == list {
			elem = *t.elem
		}
		for _, e := range v {
			parts = append(parts, p.value(elem, e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		return p.object(t, v)
	default:
		return quoted(v)
	}
}

func (p pythonWriter) object(t typ, v map[string]any) string {
	var parts []string
	if t.kind == record && fits(t.rec, v) {
		names := p.names(t.rec)
		for _, f := range t.rec.fields {
			if x, ok := v[f.key]; ok {
				parts = append(parts, names[f.key]+"="+p.value(f.typ, x))
			}
		}
		return p.class(t.rec) + "(" + strings.Join(parts, ", ") + ")"
	}
	elem := typ{}
	if t.kind == dict {
		elem = *t.elem
	}
	for _, k := range conf.SortedKeys(v) {
		parts = append(parts, quoted(k)+": "+p.value(elem, v[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// fits reports whether a default has all that its object needs, and no more than it has.
func fits(m *message, v map[string]any) bool {
	known := 0
	for _, f := range m.fields {
		if _, ok := v[f.key]; ok {
			known++
		} else if f.always && !f.has && !(f.typ.kind == record && complete(f.typ.rec)) {
			return false
		}
	}
	return known == len(v)
}
