package typegen

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// tsWords are the names of types that the output itself uses, or cannot have.
var tsWords = strings.Fields(`Record Partial Array Object String Number Boolean Symbol Function`)

// bareName is a member that needs no quotes.
var bareName = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

// typescript writes interfaces, and the defaults as a constant.
func typescript(m *model) string {
	var b strings.Builder
	fmt.Fprintf(&b, "// Made by: holdfast schema types %s --lang ts. Do not edit.\n", m.service)
	for _, msg := range m.messages {
		b.WriteString("\n")
		tsComment(&b, "", msg.doc)
		fmt.Fprintf(&b, "export interface %s {\n", tsName(msg))
		for _, f := range msg.fields {
			doc := f.doc
			if f.has {
				doc = strings.TrimSpace(doc + "\nDefault: " + quoted(f.def))
			}
			tsComment(&b, "  ", doc)
			optional := ""
			if !f.always {
				optional = "?"
			}
			fmt.Fprintf(&b, "  %s%s: %s;\n", tsMember(f.key), optional, tsType(f.typ))
		}
		b.WriteString("}\n")
	}
	last := m.messages[len(m.messages)-1]
	name := tsName(last)
	fmt.Fprintf(&b, "\nexport const %sDefaults: Partial<%s> = %s;\n", strings.ToLower(name[:1])+name[1:], name, tsValue(defaults(last, 0), ""))
	return b.String()
}

func tsName(m *message) string {
	if slices.Contains(tsWords, m.name) {
		return m.name + "_"
	}
	return m.name
}

func tsMember(key string) string {
	if bareName.MatchString(key) {
		return key
	}
	return quoted(key)
}

func tsComment(b *strings.Builder, indent, doc string) {
	lines := comment(doc)
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], "*/", `*\/`)
	}
	switch len(lines) {
	case 0:
	case 1:
		fmt.Fprintf(b, "%s/** %s */\n", indent, lines[0])
	default:
		fmt.Fprintf(b, "%s/**\n", indent)
		for _, line := range lines {
			b.WriteString(strings.TrimRight(indent+" * "+line, " ") + "\n")
		}
		fmt.Fprintf(b, "%s */\n", indent)
	}
}

func tsType(t typ) string {
	var out string
	switch t.kind {
	case boolean:
		out = "boolean"
	case integer, number:
		out = "number"
	case text:
		out = "string"
	case list:
		out = "Array<" + tsType(*t.elem) + ">"
	case dict:
		out = "Record<string, " + tsType(*t.elem) + ">"
	case record:
		out = tsName(t.rec)
	case literal:
		var values []string
		for _, v := range t.values {
			values = append(values, quoted(v))
		}
		out = strings.Join(values, " | ")
	case union:
		var parts []string
		for _, x := range t.of {
			parts = append(parts, tsType(x))
		}
		out = strings.Join(slices.Compact(parts), " | ")
	default:
		return "unknown"
	}
	if t.nullable {
		out += " | null"
	}
	return out
}

// tsValue is a value of JSON as an expression: JSON, but for a member that would set the
// prototype.
func tsValue(v any, indent string) string {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return "{}"
		}
		var b strings.Builder
		b.WriteString("{\n")
		for _, k := range conf.SortedKeys(v) {
			name := tsMember(k)
			if k == "__proto__" {
				name = `["__proto__"]`
			}
			fmt.Fprintf(&b, "%s  %s: %s,\n", indent, name, tsValue(v[k], indent+"  "))
		}
		return b.String() + indent + "}"
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, tsValue(e, indent))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return quoted(v)
	}
}
