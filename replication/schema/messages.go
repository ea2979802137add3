package schema

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// formatValue formats a value of a schema for a message.
func formatValue(v any) string {
	switch v.(type) {
	case map[string]any, []any:
		return conf.KindOf(v)
	}
	return conf.Clip(jsonText(v))
}

// jsonText returns the compact JSON of v, without escapes for HTML.
func jsonText(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null" // not reachable for a JSON value
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// joinOr joins alternatives: "a", "a or b", "a, b or c".
func joinOr(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

const maxNames = 20

// joinLimited joins at most maxNames of names.
func joinLimited(names []string) string {
	if len(names) <= maxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}

// closest returns the candidate with the fewest edits from s, at most max.
func closest(s string, candidates []string, max int) (string, bool) {
	if len(s) > conf.MaxKey {
		return "", false
	}
	best, found := "", max+1
	for _, c := range candidates {
		if d := len(c) - len(s); d >= found || -d >= found {
			continue
		}
		if d := distance(s, c); d < found {
			best, found = c, d
		}
	}
	return best, found <= max
}

// distance returns the number of insertions, deletions and replacements from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
