package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/pelletier/go-toml/v2"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/yamljson"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// formats are the ways to write values without a template. Each reads back as what was
// written, or is an error: a format that has no spelling for a value never writes another
// one. Errors name the key and never the value.
var formats = map[string]func(t *target, v any) ([]byte, error){
	"json": writeJSON, "yaml": writeYAML, "toml": writeTOML, "env": writeEnv, "properties": writeProperties, "ini": writeINI,
}

// Formats lists the names of the formats.
func Formats() []string { return conf.SortedKeys(formats) }

// inFormat writes a document, or the part of it that the target shows.
func (t *target) inFormat(doc map[string]any) ([]byte, error) {
	var v any = doc
	if t.key != "" {
		var ok bool
		if v, ok = conf.Lookup(doc, t.key); !ok {
			return nil, conf.Errorf(conf.CodeNotFound, "%s has no key %s", t.service, t.key).WithHint("see them: holdfast get %s", t.service)
		}
	}
	return formats[t.format](t, v)
}

// spelling is the error for a value that a format cannot write.
func (t *target) spelling(key, why string) error {
	return conf.Errorf(conf.CodeUnsupported, "%s has no spelling for the value of %q: %s", t.format, key, why).
		WithHint("use json, yaml or a template; or show a part of the values with key")
}

func (t *target) object(v any) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, t.spelling(t.key, "it is no object")
	}
	return m, nil
}

func encodeJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return b.Bytes(), err
}

func writeJSON(_ *target, v any) ([]byte, error) { return encodeJSON(v, "  ") }

func writeYAML(_ *target, v any) ([]byte, error) {
	text, err := encodeJSON(v, "")
	if err != nil {
		return nil, err
	}
	return yamljson.FromJSON(text)
}

func writeEnv(t *target, v any) ([]byte, error) {
	m, err := t.object(v)
	if err != nil {
		return nil, err
	}
	text, err := encodeJSON(m, "")
	if err != nil {
		return nil, err
	}
	out, err := localapi.EnvFile(text, t.prefix)
	return []byte(out), err
}

// writeTOML leaves null members out: TOML has no null.
func writeTOML(t *target, v any) ([]byte, error) {
	m, err := t.object(v)
	if err != nil {
		return nil, err
	}
	plain, err := t.toTOML(m, "")
	if err != nil {
		return nil, err
	}
	out, err := toml.Marshal(plain)
	if err != nil {
		return nil, t.spelling(t.key, "it cannot be written")
	}
	var again map[string]any
	if err := toml.Unmarshal(out, &again); err != nil || !reflect.DeepEqual(plain, any(again)) {
		return nil, t.spelling(t.key, "it would not read back as the same")
	}
	return out, nil
}

func (t *target) toTOML(v any, at string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, sub := range v {
			if sub == nil {
				continue
			}
			w, err := t.toTOML(sub, join(at, k))
			if err != nil {
				return nil, err
			}
			out[k] = w
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, sub := range v {
			if sub == nil {
				return nil, t.spelling(at, "a null in a list")
			}
			w, err := t.toTOML(sub, at)
			if err != nil {
				return nil, err
			}
			out[i] = w
		}
		return out, nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil || !strings.ContainsAny(v.String(), ".eE") {
			return nil, t.spelling(at, "its numbers have 64 bits")
		}
		return f, nil
	default:
		return v, nil
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// rawText is a value as /v1/config/SERVICE/KEY?raw has it: a string without quotes, null as
// nothing, the rest as JSON.
func rawText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	default:
		text, err := encodeJSON(v, "")
		return strings.TrimSuffix(string(text), "\n"), err
	}
}

// leaves calls f for each value below m that is no object with members.
func leaves(m map[string]any, at string, f func(key string, v any) error) error {
	for _, k := range conf.SortedKeys(m) {
		key := join(at, k)
		if sub, ok := m[k].(map[string]any); ok && len(sub) > 0 {
			if err := leaves(sub, key, f); err != nil {
				return err
			}
			continue
		}
		if err := f(key, m[k]); err != nil {
			return err
		}
	}
	return nil
}

// writeProperties writes a file that every java.util.Properties reads: ASCII, with an
// escape for each character that could mean something.
func writeProperties(t *target, v any) ([]byte, error) {
	m, err := t.object(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	seen := map[string]bool{}
	err = leaves(m, "", func(key string, v any) error {
		if v == nil {
			return nil
		}
		if seen[key] {
			return t.spelling(key, "two keys have this name")
		}
		seen[key] = true
		text, err := rawText(v)
		if err != nil {
			return err
		}
		property(&b, t.prefix+key, true)
		b.WriteByte('=')
		property(&b, text, false)
		b.WriteByte('\n')
		return nil
	})
	return b.Bytes(), err
}

var propertyEscapes = map[rune]string{
	'\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\f': `\f`, '=': `\=`, ':': `\:`, '#': `\#`, '!': `\!`,
}

// property writes a key or a value of a .properties file.
func property(b *bytes.Buffer, text string, key bool) {
	for i, r := range text {
		e, special := propertyEscapes[r]
		switch {
		case special:
			b.WriteString(e)
		case r == ' ' && (key || i == 0):
			b.WriteString(`\ `)
		case r < ' ' || r > '~':
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(b, `\u%04X`, unit)
			}
		default:
			b.WriteRune(r)
		}
	}
}

// writeINI writes the plain members into one section, and each object into a section with
// its name. INI has no escapes and no standard: what a reader could take for something
// else is an error.
func writeINI(t *target, v any) ([]byte, error) {
	m, err := t.object(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	sections := map[string]bool{}
	if t.section != "" {
		sections[t.section] = true
	}
	err = t.iniSection(&b, t.section, m, "", sections)
	return b.Bytes(), err
}

func (t *target) iniSection(b *bytes.Buffer, name string, m map[string]any, at string, sections map[string]bool) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r == '[' || r == ']' || unicode.IsControl(r) }) || name != strings.TrimSpace(name) {
		return t.spelling(at, "it would be a section with brackets, spaces or line breaks in its name")
	}
	var objects []string
	var lines bytes.Buffer
	seen := map[string]bool{}
	for _, k := range conf.SortedKeys(m) {
		switch v := m[k].(type) {
		case nil:
		case map[string]any:
			objects = append(objects, k)
		default:
			text, err := rawText(v)
			if err != nil {
				return err
			}
			key := join(at, k)
			switch lower := strings.ToLower(k); {
			case seen[lower]:
				return t.spelling(key, "keys that differ in case only are one")
			case k == "" || k != strings.TrimSpace(k) || strings.ContainsFunc(k, unicode.IsControl) || strings.ContainsAny(k, "=:[]#;"):
				return t.spelling(key, "its key has a character with a meaning")
			case text != strings.TrimSpace(text) || strings.ContainsFunc(text, func(r rune) bool {
				return unicode.IsControl(r) && r != '\t' || r == '\u0085' || r == '\u2028' || r == '\u2029'
			}):
				return t.spelling(key, "it has a line break, or a space at an end")
			default:
				seen[lower] = true
			}
			fmt.Fprintf(&lines, "%s = %s\n", k, text)
		}
	}
	if lines.Len() > 0 {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		if name != "" {
			fmt.Fprintf(b, "[%s]\n", name)
		}
		b.Write(lines.Bytes())
	}
	for _, k := range objects {
		key := join(at, k)
		if sections[key] {
			return t.spelling(key, "another section has this name")
		}
		sections[key] = true
		if err := t.iniSection(b, key, m[k].(map[string]any), key, sections); err != nil {
			return err
		}
	}
	return nil
}
