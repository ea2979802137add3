package typegen

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// pascal makes an exported name: ASCII letters and digits, words with a capital.
func pascal(s string) string {
	var b strings.Builder
	begin := true
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		switch {
		case letter && begin:
			b.WriteRune(unicode.ToUpper(r))
			begin = false
		case letter:
			b.WriteRune(r)
		case r >= '0' && r <= '9':
			if b.Len() == 0 {
				b.WriteByte('X')
			}
			b.WriteRune(r)
			begin = false
		default:
			begin = true
		}
	}
	return b.String()
}

// comment is a text of the schema as lines that end no comment and hide nothing.
func comment(s string) []string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\u2028' || r == '\u2029' || unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r): // such as those that turn the direction of the text
			return -1
		}
		return r
	}, s)
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(clean), "\n") {
		out = append(out, strings.TrimSpace(line))
	}
	if len(out) == 1 && out[0] == "" {
		return nil
	}
	return out
}

// quoted is a text as JSON, which is a literal of Python and of TypeScript too.
func quoted(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // a value of a schema, which was JSON
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "\x7f", `\u007f`)
}

// namer gives every name once.
type namer map[string]bool

func (n namer) take(name string) string {
	out := name
	for i := 2; n[out]; i++ {
		out = fmt.Sprintf("%s%d", name, i)
	}
	n[out] = true
	return out
}
