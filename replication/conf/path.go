package conf

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Lookup returns the value of a dotted key. At every level, a member with the whole
// key as its name overrides a path through nested objects.
func Lookup(doc map[string]any, key string) (any, bool) {
	if v, ok := doc[key]; ok {
		return v, true
	}
	for i := range len(key) {
		if key[i] != '.' {
			continue
		}
		if sub, ok := doc[key[:i]].(map[string]any); ok {
			if v, ok := Lookup(sub, key[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// Nest returns the merge patch that sets one dotted key. literal reports whether a
// prefix of the key is the name of one member; nil splits at every dot.
func Nest(key string, value any, literal func(prefix string) bool) map[string]any {
	if literal == nil || !literal(key) {
		if head, rest, ok := strings.Cut(key, "."); ok {
			return map[string]any{head: Nest(rest, value, nil)}
		}
	}
	return map[string]any{key: value}
}

// SortedKeys returns the keys of m in ascending order.
func SortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
