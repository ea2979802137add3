package search

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxText is how much of a text can be found. Indexing a value of a megabyte would
// take half a second at each change.
const maxText = 16 << 10

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "")
}

// valueText is what a person searches for: a string without its quotes and escapes.
func valueText(valueJSON string) string {
	if strings.HasPrefix(valueJSON, `"`) {
		var s string
		if json.Unmarshal([]byte(valueJSON), &s) == nil {
			return s
		}
	}
	return valueJSON
}

// Prefixes in the column facets. The trigram index cannot find less than three
// characters, so what is shorter has a prefix of control characters, which no query
// has: a filter is one trigram, and so is the start of a word.
const (
	prefixComplexity = "\x01c"
	prefixType       = "\x01t"
	prefixKey        = "\x02" // starts of the words of the key
	prefixOther      = "\x03" // starts of the words of the service and of the value
	wordsOfValue     = 16
)

func facets(it *conf.Item, value string) string {
	var b strings.Builder
	b.WriteString(prefixComplexity + facet(string(it.Complexity)) + prefixType + facet(string(it.Type)))
	starts(&b, prefixKey, it.Key, -1)
	starts(&b, prefixOther, it.Service, -1)
	starts(&b, prefixOther, value, wordsOfValue)
	return b.String()
}

// facet is the one letter for a complexity or a type.
func facet(name string) string {
	switch name {
	case string(conf.TypeSecret): // its first letter is taken
		return "x"
	case "":
		return "-"
	default:
		return name[:1]
	}
}

// starts writes the first two characters of up to max words of text.
func starts(b *strings.Builder, prefix, text string, max int) {
	seen := map[string]bool{}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		_, n := utf8.DecodeRuneInString(word)
		_, m := utf8.DecodeRuneInString(word[n:])
		if w := word[:n+m]; !seen[w] {
			if len(seen) == max {
				return
			}
			seen[w] = true
			b.WriteString(prefix)
			b.WriteString(prefix)
			b.WriteString(w)
		}
	}
}
