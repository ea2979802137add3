package seal

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

// maxDepth limits the nesting of a value. It is above conf.MaxDepth because an
// envelope contains a document that may use all of that.
const maxDepth = 2 * conf.MaxDepth

// Canonical returns the RFC 8785 form of v: a value of conf.ParseJSON, or anything
// that encoding/json can marshal. It rejects a number that is not a finite 64-bit
// float, or whose form is an integer of 2^53 or more, with CodeInvalid and the key in
// Details.
func Canonical(v any) ([]byte, error) { return appendValue(nil, v, 0) }

// CanonicalJSON returns the RFC 8785 form of a JSON text, which may be a scalar. The
// text is parsed as strictly as by conf.ParseJSON, without a limit of its size.
func CanonicalJSON(raw []byte) ([]byte, error) {
	v, err := conf.ParseJSONDepth(raw, len(raw), maxDepth)
	if err != nil {
		return nil, err
	}
	return appendValue(make([]byte, 0, len(raw)), v, 0)
}

func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, conf.Errorf(conf.CodeInvalid, "nested deeper than %d levels", maxDepth)
	}
	switch t := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, t), nil
	case string:
		if !utf8.ValidString(t) {
			return nil, conf.Errorf(conf.CodeInvalid, "text is not valid UTF-8")
		}
		return AppendString(dst, t), nil
	case json.Number:
		return appendNumber(dst, string(t))
	case float64:
		return appendFloat(dst, t)
	case int:
		return appendNumber(dst, strconv.Itoa(t))
	case int64:
		return appendNumber(dst, strconv.FormatInt(t, 10))
	case uint64:
		return appendNumber(dst, strconv.FormatUint(t, 10))
	case map[string]any:
		return appendObject(dst, t, depth)
	case []any:
		return appendArray(dst, t, depth)
	default:
		return appendOther(dst, v, depth)
	}
}

// appendOther uses encoding/json, for structs and json.RawMessage.
func appendOther(dst []byte, v any, depth int) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInvalid, "value has no JSON form: %w", err)
	}
	decoded, err := conf.ParseJSONDepth(raw, len(raw), maxDepth)
	if err != nil {
		return nil, err
	}
	return appendValue(dst, decoded, depth)
}

func appendObject(dst []byte, m map[string]any, depth int) ([]byte, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		if !utf8.ValidString(k) {
			return nil, conf.Errorf(conf.CodeInvalid, "a key is not valid UTF-8")
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareUTF16)
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, k), ':')
		var err error
		if dst, err = appendValue(dst, m[k], depth+1); err != nil {
			return nil, within(err, k)
		}
	}
	return append(dst, '}'), nil
}

func appendArray(dst []byte, a []any, depth int) ([]byte, error) {
	dst = append(dst, '[')
	for i, v := range a {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return nil, within(err, strconv.Itoa(i))
		}
	}
	return append(dst, ']'), nil
}

// within prefixes the key in err with the name of the enclosing member.
func within(err error, member string) error {
	e, ok := errors.AsType[*conf.Error](err)
	if !ok {
		return err
	}
	c := *e
	if len(e.Details) == 0 {
		c.Details = []conf.FieldError{{Key: member, Message: e.Message}}
	} else {
		c.Details = []conf.FieldError{{Key: member + "." + e.Details[0].Key, Message: e.Details[0].Message}}
	}
	return &c
}

// appendNumber appends a number in decimal text, which may not come from a parser.
func appendNumber(dst []byte, text string) ([]byte, error) {
	if smallInteger(text) {
		return append(dst, text...), nil
	}
	if !numberText(text) {
		return nil, conf.Errorf(conf.CodeInvalid, "%q is not a JSON number", conf.Clip(text))
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInvalid, "number %s does not fit a 64-bit float", conf.Clip(text))
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	if f == 0 && strings.ContainsAny(mantissa, "123456789") {
		return nil, conf.Errorf(conf.CodeInvalid, "number %s is too small for a 64-bit float", conf.Clip(text))
	}
	if !strings.ContainsAny(text, ".eE") && math.Abs(f) >= conf.MaxInteger {
		return nil, integerError(text)
	}
	return appendFloat(dst, f)
}

func appendFloat(dst []byte, f float64) ([]byte, error) {
	text, err := jcs.NumberToJSON(f)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInvalid, "number is not finite")
	}
	// Below 1e21 the form has no exponent: it is an integer, which ParseJSON rejects.
	if math.Abs(f) >= conf.MaxInteger && !strings.ContainsAny(text, ".e") {
		return nil, integerError(text)
	}
	return append(dst, text...), nil
}

func integerError(text string) error {
	return conf.Errorf(conf.CodeInvalid, "integer %s is beyond 2^53", conf.Clip(text)).
		WithHint("write it as a string: JSON numbers of this size are changed by many readers")
}

// smallInteger reports whether s is a short unsigned integer, which is canonical.
func smallInteger(s string) bool {
	return jsonscan.Digits(s, 15) && (s[0] != '0' || s == "0")
}

// numberText reports whether s is a number of RFC 8259, without white space.
func numberText(s string) bool {
	scan := jsonscan.Scanner{Data: []byte(s)}
	_, ok := scan.Number()
	return ok && scan.End()
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as an RFC 8785 string. s must be valid UTF-8.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// compareUTF16 compares keys by their UTF-16 code units, as RFC 8785 requires. That
// differs from the order of the UTF-8 bytes only between a character beyond the basic
// plane, whose units start at U+D800, and one of U+E000 to U+FFFF.
func compareUTF16(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	if i == n {
		return cmp.Compare(len(a), len(b))
	}
	// Lead bytes 0xEE and 0xEF start U+E000 to U+FFFF, 0xF0 and up the characters
	// beyond the basic plane, which come first here.
	if (a[i] >= 0xF0) != (b[i] >= 0xF0) && min(a[i], b[i]) >= 0xEE {
		return cmp.Compare(b[i], a[i])
	}
	return cmp.Compare(a[i], b[i])
}
