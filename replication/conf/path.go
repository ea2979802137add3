package conf

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Lookup finds the dotted key in doc. A member whose name is the key itself wins
// over a path through nested objects, at every level.
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

// Nest turns a dotted key and its value into the object that a merge patch of
// this one key is. literal says of a prefix of the key whether it names a single
// member; nil splits at every dot.
func Nest(key string, value any, literal func(prefix string) bool) map[string]any {
	if literal == nil || !literal(key) {
		if head, rest, ok := strings.Cut(key, "."); ok {
			return map[string]any{head: Nest(rest, value, nil)}
		}
	}
	return map[string]any{key: value}
}

// SortedKeys lists the keys of m in ascending order.
func SortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
