package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Clean replaces control characters, so that text of other people cannot reach
// the terminal with them.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return '\uFFFD'
		}
		return r
	}, s)
}

// Cell keeps a text on its line and in its column.
func Cell(s string) string {
	s = strings.NewReplacer("\n", " ", "\t", " ").Replace(Clean(s))
	if s == "" {
		return "-"
	}
	return s
}

// Brief shortens a long text for a table.
func Brief(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-3]) + "..."
}

// Text is an optional text of a response, "" for none.
func Text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Plural is n with its noun.
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Size is a number of bytes for a person.
func Size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
