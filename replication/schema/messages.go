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
	best, limit := "", max
	if len(s) > conf.MaxKey {
		return "", false
	}
	for _, c := range candidates {
		if d := conf.EditDistance(s, c, limit); d <= limit {
			best, limit = c, d-1
		}
	}
	return best, limit < max
}
