package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// ParseJSON decodes one JSON value (RFC 8259), as strictly as signed documents require:
// UTF-8 only, no duplicate keys, at most MaxDepth levels and max bytes, no number
// outside IEEE 754, no integer beyond 2^53. It returns numbers as json.Number, objects
// as map[string]any, arrays as []any.
//
// encoding/json alone accepts duplicates, replaces bad UTF-8, and rounds large
// integers, so two readers of one document could see two values.
func ParseJSON(data []byte, max int) (any, error) { return ParseJSONDepth(data, max, MaxDepth) }

// ParseJSONDepth is ParseJSON with another limit than MaxDepth, for envelopes that
// contain a document.
func ParseJSONDepth(data []byte, max, depth int) (any, error) { return parse(data, max, depth, false) }

func parse(data []byte, max, depth int, large bool) (any, error) {
	if len(data) > max {
		return nil, Errorf(CodeTooLarge, "document of %d bytes is over the limit of %d", len(data), max)
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return nil, Errorf(CodeMalformed, "the document begins with a byte order mark").WithHint("save it as UTF-8 without a byte order mark (BOM)")
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, Errorf(CodeMalformed, "the document is in UTF-16").WithHint("save it as UTF-8 without a byte order mark (BOM)")
	}
	if !utf8.Valid(data) {
		return nil, Errorf(CodeMalformed, "document is not valid UTF-8").WithHint("encode it as UTF-8 without a byte order mark")
	}
	if v, ok := fastJSON(data, depth); ok {
		return v, nil
	}
	return parseSlowly(data, depth, large)
}

// ParseForeign is ParseObject for what others wrote and nobody keeps, such as a context
// with their identifiers: integers beyond 2^53 are accepted.
func ParseForeign(data []byte, max int) (map[string]any, error) {
	v, err := parse(data, max, MaxDepth, true)
	if err != nil {
		return nil, err
	}
	return asObject(v)
}

// ParseSchema is ParseObject for a JSON Schema, which may nest deeper than a document
// and have limits beyond 2^53.
func ParseSchema(data []byte) (map[string]any, error) {
	v, err := parse(data, MaxSchema, MaxSchemaDepth, true)
	if err != nil {
		return nil, err
	}
	return asObject(v)
}

// parseCarefully decodes all JSON that is accepted, and names the errors in all other.
func parseCarefully(data []byte, depth int) (any, error) { return parseSlowly(data, depth, false) }

// parseSlowly is parseCarefully; with large, it accepts integers beyond 2^53.
func parseSlowly(data []byte, depth int, large bool) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	p := parser{dec: dec, limit: depth, large: large}
	v, err := p.value(0)
	if err != nil {
		err := p.locate(err)
		if e, ok := errors.AsType[*Error](err); ok && e.Hint == "" && looksLikeYAML(data) {
			e.Hint = "it looks like YAML: convert it to JSON, such as with yq -o json, or " + pythonYAML
		}
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, p.locate(errors.New("more text after the JSON value"))
	}
	if err := loneSurrogates(data); err != nil {
		return nil, err
	}
	return v, nil
}

const pythonYAML = `python3 -c "import sys,yaml,json; json.dump(yaml.safe_load(sys.stdin),sys.stdout)"`

// looksLikeYAML reports whether a text that is no JSON begins as a YAML mapping or list.
func looksLikeYAML(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' || line[0] == '%' {
			continue
		}
		if string(line) == "---" || bytes.HasPrefix(line, []byte("- ")) {
			return true
		}
		key, value, ok := bytes.Cut(line, []byte(":"))
		return ok && !bytes.ContainsAny(key, "{}[],") && (len(value) == 0 || value[0] == ' ')
	}
	return false
}

// ParseObject is ParseJSON for a value that must be an object.
func ParseObject(data []byte, max int) (map[string]any, error) {
	v, err := ParseJSON(data, max)
	if err != nil {
		return nil, err
	}
	return asObject(v)
}

func asObject(v any) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, Errorf(CodeMalformed, "expected a JSON object, got %s", KindOf(v)).
			WithHint(`send an object such as {"key": "value"}`)
	}
	return m, nil
}

type parser struct {
	dec   *json.Decoder
	limit int
	large bool
	path  []string
}

func (p *parser) locate(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("unexpected end of the document")
	}
	at := ""
	if len(p.path) > 0 {
		at = " in " + Clip(strings.Join(p.path, "."))
	}
	return Errorf(CodeMalformed, "malformed JSON at byte %d%s: %s", p.dec.InputOffset(), at, Clip(err.Error()))
}

func (p *parser) value(depth int) (any, error) {
	if depth > p.limit {
		return nil, fmt.Errorf("nested deeper than %d levels", p.limit)
	}
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		if t == '{' {
			return p.object(depth)
		}
		return p.array(depth)
	case json.Number:
		if err := checkNumber(t); err != nil && !(p.large && errors.Is(err, errLarge)) {
			return nil, err
		}
		return t, nil
	default:
		return t, nil
	}
}

func (p *parser) object(depth int) (any, error) {
	m := map[string]any{}
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := tok.(string)
		if !ok {
			return nil, errors.New("expected a key")
		}
		if _, dup := m[key]; dup {
			return nil, fmt.Errorf("duplicate key %q", Clip(key))
		}
		p.path = append(p.path, key)
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		p.path = p.path[:len(p.path)-1]
		m[key] = v
	}
	_, err := p.dec.Token()
	return m, err
}

func (p *parser) array(depth int) (any, error) {
	a := []any{}
	for p.dec.More() {
		p.path = append(p.path, strconv.Itoa(len(a)))
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		p.path = p.path[:len(p.path)-1]
		a = append(a, v)
	}
	_, err := p.dec.Token()
	return a, err
}

func checkNumber(n json.Number) error {
	f, err := n.Float64()
	if err != nil || math.IsInf(f, 0) {
		return errors.New("a number does not fit a 64-bit float")
	}
	if math.Trunc(f) != f || math.Abs(f) < MaxInteger {
		return nil
	}
	// 1e300 is a float by its spelling and survives; 9007199254740993 does not.
	if !strings.ContainsAny(n.String(), ".eE") {
		return errLarge
	}
	return nil
}

var errLarge = errors.New("an integer is beyond 2^53: write it as a string, as the schema must declare it")

// loneSurrogates rejects \ud800-\udfff escapes without their other half, which
// encoding/json silently replaces by U+FFFD.
func loneSurrogates(data []byte) error {
	for i := 0; i+1 < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		if data[i+1] != 'u' {
			i++
			continue
		}
		r := hex4(data[i+2:])
		switch {
		case r >= 0xDC00 && r <= 0xDFFF:
			return Errorf(CodeMalformed, "malformed JSON at byte %d: lone surrogate", i)
		case r >= 0xD800 && r <= 0xDBFF:
			rest := data[i+6:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return Errorf(CodeMalformed, "malformed JSON at byte %d: lone surrogate", i)
			}
			if lo := hex4(rest[2:]); lo < 0xDC00 || lo > 0xDFFF {
				return Errorf(CodeMalformed, "malformed JSON at byte %d: lone surrogate", i)
			}
			i += 11
		default:
			i += 5
		}
	}
	return nil
}

func hex4(b []byte) int64 {
	n, err := strconv.ParseInt(string(b[:min(4, len(b))]), 16, 32)
	if err != nil || len(b) < 4 {
		return -1
	}
	return n
}

// DecodeStrict decodes a JSON object into the struct that dst points to, by the rules
// of ParseJSON. It rejects unknown members, also those that differ in case only.
func DecodeStrict(data []byte, max int, dst any) error {
	return DecodeStrictDepth(data, max, MaxDepth, dst)
}

// DecodeStrictDepth is DecodeStrict with another limit than MaxDepth.
func DecodeStrictDepth(data []byte, max, depth int, dst any) error {
	v, err := ParseJSONDepth(data, max, depth)
	if err != nil {
		return err
	}
	m, err := asObject(v)
	if err != nil {
		return err
	}
	known := members(reflect.TypeOf(dst).Elem())
	var details []FieldError
	for _, k := range SortedKeys(m) {
		if !known[k] {
			details = append(details, FieldError{Key: Clip(k), Message: "unknown member"})
		}
	}
	if details != nil {
		e := Errorf(CodeMalformed, "unknown member %q", details[0].Key).WithHint("known members: %s", strings.Join(SortedKeys(known), ", "))
		e.Details = details
		return e
	}
	if err := json.Unmarshal(data, dst); err != nil {
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			want := jsonKind(te.Type)
			e := Errorf(CodeMalformed, "wrong type for %q: got %s, want %s", te.Field, firstWord(te.Value), want)
			e.Details = []FieldError{{Key: te.Field, Message: fmt.Sprintf("got %s, want %s", firstWord(te.Value), want)}}
			return e
		}
		return Errorf(CodeMalformed, "malformed JSON: %w", err)
	}
	return nil
}

// jsonKind returns the JSON type of a Go type, for messages.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	default:
		return "an object"
	}
}

var memberCache sync.Map // reflect.Type -> map[string]bool

func members(t reflect.Type) map[string]bool {
	if c, ok := memberCache.Load(t); ok {
		return c.(map[string]bool)
	}
	out := map[string]bool{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out[name] = true
		}
	}
	memberCache.Store(t, out)
	return out
}

// KindOf names the JSON type of a value of ParseJSON, for messages.
func KindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

// firstWord returns the kind of "number 4711": the number may be a secret in the wrong
// place.
func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
