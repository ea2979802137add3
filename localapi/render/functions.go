package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"unicode"

	"github.com/holdfast-config/holdfast/localapi/yamljson"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// reading is the documents of a group by service, all of one moment.
type reading map[string]map[string]any

// functions are those of templates, with the names and the order of arguments that
// consul-template has. None reads the environment, a file or the clock, or runs anything.
// Their errors quote no value.
func functions(r reading) template.FuncMap {
	return template.FuncMap{
		// Values.
		"key": func(path string) (string, error) {
			v, err := r.find(path)
			if err != nil {
				return "", err
			}
			return rawText(v)
		},
		"keyExists": func(path string) bool { _, err := r.find(path); return err == nil },
		"keyOrDefault": func(path, otherwise string) (string, error) {
			v, err := r.find(path)
			if conf.CodeOf(err) == conf.CodeNotFound || err == nil && v == nil {
				return otherwise, nil
			}
			if err != nil {
				return "", err
			}
			return rawText(v)
		},
		"ls":    func(path string) ([]pair, error) { return r.list(path, false) },
		"tree":  func(path string) ([]pair, error) { return r.list(path, true) },
		"index": index,

		// Formats.
		"toJSON":                func(v any) (string, error) { return inJSON(v, "", true) },
		"toJSONPretty":          func(v any) (string, error) { return inJSON(v, "  ", true) },
		"toUnescapedJSON":       func(v any) (string, error) { return inJSON(v, "", false) },
		"toUnescapedJSONPretty": func(v any) (string, error) { return inJSON(v, "  ", false) },
		"toYAML":                toYAML,
		"toTOML":                toTOML,
		"parseJSON":             parseJSON,
		"parseYAML":             parseYAML,
		"parseBool":             func(s string) (bool, error) { v, err := strconv.ParseBool(s); return v, quoteless(err) },
		"parseInt":              func(s string) (int64, error) { v, err := strconv.ParseInt(s, 10, 64); return v, quoteless(err) },
		"parseUint":             func(s string) (uint64, error) { v, err := strconv.ParseUint(s, 10, 64); return v, quoteless(err) },
		"parseFloat":            func(s string) (float64, error) { v, err := strconv.ParseFloat(s, 64); return v, quoteless(err) },
		"base64Encode":          func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"base64Decode":          decode(base64.StdEncoding),
		"base64URLEncode":       func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
		"base64URLDecode":       decode(base64.URLEncoding),
		"sha256Hex":             func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) },

		// Text. The text comes last, so that it can be piped in.
		"join": joinTexts,
		"split": func(sep, s string) []string {
			if s == "" {
				return []string{}
			}
			return strings.Split(s, sep)
		},
		"indent":          indent,
		"replaceAll":      func(old, with, s string) string { return strings.ReplaceAll(s, old, with) },
		"regexMatch":      func(expr, s string) (bool, error) { return regexp.MatchString(expr, s) },
		"regexReplaceAll": regexReplaceAll,
		"toLower":         strings.ToLower,
		"toUpper":         strings.ToUpper,
		"toTitle":         toTitle,
		"trim":            func(cut, s string) string { return strings.Trim(s, cut) },
		"trimPrefix":      func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
		"trimSuffix":      func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
		"trimSpace":       strings.TrimSpace,

		// Lists.
		"in":       func(list, v any) (bool, error) { return contains(v, list) },
		"contains": contains,

		// Numbers, of which the second is the first operand: {{10 | subtract 3}} is 7.
		"add":      func(b, a any) (any, error) { return compute('+', a, b) },
		"subtract": func(b, a any) (any, error) { return compute('-', a, b) },
		"multiply": func(b, a any) (any, error) { return compute('*', a, b) },
		"divide":   func(b, a any) (any, error) { return compute('/', a, b) },
		"modulo":   func(b, a any) (any, error) { return compute('%', a, b) },
		"minimum":  func(b, a any) (any, error) { return compute('<', a, b) },
		"maximum":  func(b, a any) (any, error) { return compute('>', a, b) },
	}
}

// Functions lists the names of the functions that templates have besides those of
// text/template.
func Functions() []string { return conf.SortedKeys(functions(nil)) }

// index is that of text/template, but that a missing key is an error.
func index(v any, keys ...any) (any, error) {
	for _, key := range keys {
		of := reflect.ValueOf(v)
		switch {
		case of.Kind() == reflect.Map:
			name, ok := key.(string)
			if !ok {
				return nil, errors.New("the key of an object is a text")
			}
			at := of.MapIndex(reflect.ValueOf(name))
			if !at.IsValid() {
				return nil, errors.New("the object has no such key")
			}
			v = at.Interface()
		case of.Kind() == reflect.Slice || of.Kind() == reflect.String:
			n, ok := integer(key)
			if !ok || n < 0 || n >= int64(of.Len()) {
				return nil, errors.New("the list has no such element")
			}
			v = of.Index(int(n)).Interface()
		default:
			return nil, errors.New("only lists and objects have elements")
		}
	}
	return v, nil
}

func inJSON(v any, indent string, escape bool) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escape)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func toYAML(v any) (string, error) {
	text, err := inJSON(v, "", false)
	if err != nil {
		return "", err
	}
	out, err := yamljson.FromJSON([]byte(text))
	return strings.TrimSuffix(string(out), "\n"), err
}

func toTOML(v any) (string, error) {
	text, err := inJSON(v, "", false)
	if err != nil {
		return "", err
	}
	doc, err := conf.ParseJSON([]byte(text), len(text))
	if err != nil {
		return "", err
	}
	out, err := writeTOML(&target{format: "toml"}, doc)
	return strings.TrimSuffix(string(out), "\n"), err
}

func parseJSON(s string) (any, error) {
	v, err := conf.ParseJSON([]byte(s), maxOutput)
	if err != nil {
		return nil, errors.New("the text is no JSON")
	}
	return forTemplate(v), nil
}

func parseYAML(s string) (any, error) {
	text, err := yamljson.ToJSON([]byte(s))
	if err != nil {
		return nil, errors.New("the text is no YAML")
	}
	return parseJSON(string(text))
}

func decode(e *base64.Encoding) func(string) (string, error) {
	return func(s string) (string, error) {
		out, err := e.DecodeString(s)
		return string(out), err
	}
}

// text is an element as it prints.
func text(v any) string { return fmt.Sprint(v) }

func joinTexts(sep string, list any) (string, error) {
	of := reflect.ValueOf(list)
	if of.Kind() != reflect.Slice {
		return "", errors.New("only a list can be joined")
	}
	parts := make([]string, of.Len())
	for i := range parts {
		parts[i] = text(of.Index(i).Interface())
	}
	return strings.Join(parts, sep), nil
}

func indent(spaces int, s string) (string, error) {
	if spaces < 0 || spaces > 100 {
		return "", errors.New("indent takes 0 to 100")
	}
	pad := strings.Repeat(" ", spaces)
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(pad)
		}
		b.WriteString(line)
	}
	return b.String(), nil
}

func regexReplaceAll(expr, with, s string) (string, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return "", err
	}
	return re.ReplaceAllString(s, with), nil
}

// toTitle has the first letter of each word in upper case.
func toTitle(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		was := start
		start = !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
		if was {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func contains(v, list any) (bool, error) {
	of := reflect.ValueOf(list)
	switch of.Kind() {
	case reflect.String:
		s, ok := v.(string)
		return ok && strings.Contains(of.String(), s), nil
	case reflect.Map:
		s, ok := v.(string)
		return ok && of.MapIndex(reflect.ValueOf(s)).IsValid(), nil
	case reflect.Slice:
		for i := range of.Len() {
			if equal(v, of.Index(i).Interface()) {
				return true, nil
			}
		}
		return false, nil
	default:
		return false, errors.New("only lists, objects and texts contain something")
	}
}

func equal(a, b any) bool {
	x, ok1 := float(a)
	y, ok2 := float(b)
	return ok1 && ok2 && x == y || reflect.DeepEqual(a, b)
}

func integer(v any) (int64, bool) {
	switch of := reflect.ValueOf(v); {
	case of.CanInt():
		return of.Int(), true
	case of.CanUint() && of.Uint() < 1<<63:
		return int64(of.Uint()), true
	default:
		return 0, false
	}
}

func float(v any) (float64, bool) {
	if n, ok := integer(v); ok {
		return float64(n), true
	}
	of := reflect.ValueOf(v)
	if !of.CanFloat() {
		return 0, false
	}
	return of.Float(), true
}

// compute works on integers when both are, else on floats.
func compute(op byte, a, b any) (any, error) {
	x, ok1 := integer(a)
	y, ok2 := integer(b)
	if ok1 && ok2 {
		return integers(op, x, y)
	}
	p, ok1 := float(a)
	q, ok2 := float(b)
	if !ok1 || !ok2 {
		return nil, errors.New("only numbers can be computed with")
	}
	switch op {
	case '+':
		return p + q, nil
	case '-':
		return p - q, nil
	case '*':
		return p * q, nil
	case '<':
		return min(p, q), nil
	case '>':
		return max(p, q), nil
	case '/':
		if q != 0 {
			return p / q, nil
		}
		return nil, errors.New("division by zero")
	default:
		return nil, errors.New("modulo takes integers")
	}
}

func integers(op byte, x, y int64) (any, error) {
	switch op {
	case '+':
		if s := x + y; (s > x) == (y > 0) {
			return s, nil
		}
	case '-':
		if d := x - y; (d < x) == (y > 0) {
			return d, nil
		}
	case '*':
		if x == 0 || y == 0 {
			return int64(0), nil
		}
		if p := x * y; p/y == x && !(x == -1 && y == -1<<63) && !(y == -1 && x == -1<<63) {
			return p, nil
		}
	case '<':
		return min(x, y), nil
	case '>':
		return max(x, y), nil
	case '/', '%':
		switch {
		case y == 0:
			return nil, errors.New("division by zero")
		case y == -1 && x == -1<<63:
		case op == '/':
			return x / y, nil
		default:
			return x % y, nil
		}
	}
	return nil, errors.New("the result has more than 64 bits")
}
