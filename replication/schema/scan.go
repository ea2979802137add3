package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
	"github.com/holdfast-config/holdfast/replication/schema/pattern"
)

// maxSubschemas limits the work of the library's compiler, which grows with the
// square of their number.
const maxSubschemas = 20000

// Keywords whose values are schemas; all other values are data.
var (
	schemaKeywords, listKeywords, mapKeywords = dialect.One, dialect.List, dialect.Map

	dialects = set("json-schema.org/draft/2020-12/schema", "json-schema.org/draft/2019-09/schema",
		"json-schema.org/draft-07/schema", "json-schema.org/schema")
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// scanner checks every subschema of a document before the library compiles it.
type scanner struct {
	count   int
	memory  int             // that its patterns take compiled
	noCheck bool            // no pattern with lookaround is checked
	skipped map[string]bool // patterns that are not checked
	details []conf.FieldError
}

func (s *scanner) fail(path []string, format string, args ...any) {
	if len(s.details) < maxErrors {
		s.details = append(s.details, conf.FieldError{Key: schemaKey(path), Message: fmt.Sprintf(format, args...)})
	}
}

func (s *scanner) schema(v any, path []string) {
	obj, ok := v.(map[string]any)
	if s.count++; !ok || s.count > maxSubschemas {
		return
	}
	s.keywords(obj, path)
	for _, k := range conf.SortedKeys(obj) {
		at := append(path[:len(path):len(path)], k)
		switch v := obj[k].(type) {
		case map[string]any:
			if mapKeywords[k] {
				for _, name := range conf.SortedKeys(v) {
					s.schema(v[name], append(at, name))
				}
			} else if schemaKeywords[k] {
				s.schema(v, at)
			}
		case []any:
			if listKeywords[k] {
				for i, e := range v {
					s.schema(e, append(at, strconv.Itoa(i)))
				}
			}
		case bool:
			if schemaKeywords[k] {
				s.count++
			}
		}
	}
}

func (s *scanner) keywords(obj map[string]any, path []string) {
	for k, v := range obj {
		switch k {
		case "$ref":
			if ref, ok := v.(string); ok && !localRef(ref) {
				s.fail(path, "$ref %q must point into this document, such as #/$defs/Name: nothing is loaded from elsewhere, copy what it leads to below $defs", conf.Clip(ref))
			}
		case "pattern":
			s.pattern(path, v, s.noCheck || obj[keyPattern] == unchecked)
		case "patternProperties":
			if m, ok := v.(map[string]any); ok {
				for _, text := range conf.SortedKeys(m) {
					s.pattern(path, text, false)
				}
			}
		case "$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor":
			s.fail(path, "%s is not supported: use $ref", k)
		case "$schema":
			text, _ := v.(string)
			_, rest, _ := strings.Cut(strings.TrimSuffix(text, "#"), "://")
			if !dialects[rest] {
				s.fail(path, "$schema %q is not supported: use https://json-schema.org/draft/2020-12/schema", conf.Clip(text))
			}
		default:
			if len(k) > 2 && (k[0] == 'x' || k[0] == 'X') && (k[1] == '-' || k[1] == '_') {
				s.extension(path, k, v)
			}
		}
	}
}

func (s *scanner) pattern(path []string, v any, skip bool) {
	if text, ok := v.(string); ok {
		re, err := pattern.Compile(text)
		switch lookaround := errors.Is(err, pattern.ErrLookaround); {
		case lookaround && skip:
			s.skipped[text] = true
			return
		case lookaround:
			s.fail(path, `bad pattern: %v; to show it and not check it, say %q: %q beside it or at the top`, err, keyPattern, unchecked)
			return
		case err != nil:
			s.fail(path, "bad pattern: %v", err)
			return
		}
		s.memory += re.Memory()
	}
}

var envRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// The keywords of this product.
const (
	keyComplexity   = "x-complexity"
	keyHelp         = "x-help"
	keySecret       = "x-secret"
	keySecretSource = "x-secret-source"
	keyEnv          = "x-env"
	keyKeys         = "x-keys"
	keyPattern      = "x-pattern"
	keyRollout      = "x-rollout"

	unchecked = "unchecked" // the value of keyPattern
)

// extension checks the value of one x- keyword. It accepts those of other tools, but
// no misspelled one of ours: with a misspelled x-secret, a secret is stored in clear.
func (s *scanner) extension(path []string, k string, v any) {
	text, isText := v.(string)
	switch k {
	case keyComplexity:
		if text != string(conf.Simple) && text != string(conf.Advanced) {
			s.fail(path, "%s must be simple or advanced, got %s", k, formatValue(v))
		}
	case keyHelp:
		if !isText {
			s.fail(path, "%s must be a string, got %s", k, conf.KindOf(v))
		}
	case keySecret:
		if _, ok := v.(bool); !ok {
			s.fail(path, "%s must be true or false, got %s", k, formatValue(v))
		}
	case keySecretSource:
		if text != string(conf.SourceEnv) && text != string(conf.SourceDatabase) {
			s.fail(path, "%s must be env or database, got %s", k, formatValue(v))
		}
	case keyEnv:
		if !isText || !envRE.MatchString(text) {
			s.fail(path, "%s must name an environment variable, such as OPENAI_API_KEY, got %s", k, formatValue(v))
		}
	case keyKeys:
		if text != anyKeys || len(path) > 0 {
			s.fail(path, `%s is allowed at the top only, as %q: "any"`, k, keyKeys)
		}
	case keyRollout:
		if err := checkRollout(v); err != nil || len(path) > 0 {
			s.fail(path, "%s is allowed at the top only, as a plan: %v", k, err)
		}
	case keyPattern:
		if text != unchecked {
			s.fail(path, "%s must be %q, got %s", k, unchecked, formatValue(v))
		}
	default:
		ours := []string{keyComplexity, keyHelp, keySecret, keySecretSource, keyKeys, keyRollout}
		plain := strings.ToLower(strings.ReplaceAll(k, "_", "-"))
		if near, ok := closest(plain, ours, 1); ok {
			s.fail(path, "unknown keyword %s: did you mean %s?", conf.Clip(k), near)
		}
	}
}

func checkRollout(v any) error {
	raw, err := json.Marshal(v)
	if err == nil {
		_, err = conf.ParseRolloutPlan(raw)
	}
	return err
}

// localRef reports whether ref points to a location in the same document that
// contains a schema.
func localRef(ref string) bool {
	rest, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return false
	}
	if rest == "" || rest[0] != '/' {
		return true // the root, or an anchor
	}
	toks := strings.Split(rest[1:], "/")
	for i := 0; i < len(toks); i++ {
		t := strings.ReplaceAll(toks[i], "%24", "$")
		next := i+1 < len(toks)
		switch {
		case mapKeywords[t] && next:
			i++
		case listKeywords[t] && next && isIndex(toks[i+1]):
			i++
		case schemaKeywords[t]:
		default:
			return false
		}
	}
	return true
}

func isIndex(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return err == nil
}

// schemaKey names the property that a location in a schema belongs to: its dotted
// key if it has one, else the path of the definition.
func schemaKey(path []string) string {
	var names []string
	for i := 0; i < len(path); i++ {
		if !mapKeywords[path[i]] || i+1 >= len(path) {
			continue
		}
		if path[i] != "properties" {
			names = append(names, path[i])
		}
		i++
		names = append(names, path[i])
	}
	if len(names) == 0 {
		return "(schema)"
	}
	return conf.Clip(strings.Join(names, "."))
}

// findExtremeNumber returns the path of a number with so many digits or such an
// exponent that exact arithmetic with it takes seconds.
func findExtremeNumber(v any, path []string) []string {
	switch v := v.(type) {
	case json.Number:
		if !isBoundedNumber(string(v)) {
			return append([]string{}, path...)
		}
	case map[string]any:
		for k, e := range v {
			if p := findExtremeNumber(e, append(path, k)); p != nil {
				return p
			}
		}
	case []any:
		for i, e := range v {
			if p := findExtremeNumber(e, append(path, strconv.Itoa(i))); p != nil {
				return p
			}
		}
	}
	return nil
}

const numberRule = "number must have at most 64 digits and an exponent between -400 and 400"

func isBoundedNumber(s string) bool {
	if len(s) > 64 {
		return false
	}
	i := strings.IndexAny(s, "eE")
	if i < 0 {
		return true
	}
	e, err := strconv.Atoi(strings.TrimPrefix(s[i+1:], "+"))
	return err == nil && e >= -400 && e <= 400
}
