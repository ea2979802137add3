package schema

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// formats replace those of the library where it differs from what Pydantic, zod and
// Go write: it refuses a time without an offset and a duration with a fraction or a
// sign, and accepts addresses that they refuse.
var formats = map[string]func(s string) error{
	"date-time":    isDateTime,
	"time":         isTime,
	"duration":     isDuration,
	"ipv4":         isIPv4,
	"email":        isEmail,
	"uri-template": isURITemplate,
}

func registerFormats(lib *jsonschema.Compiler) {
	for name, check := range formats {
		lib.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(v any) error {
			if s, ok := v.(string); ok {
				return check(s)
			}
			return nil
		}})
	}
}

// standard returns the library's own check of a format.
func standard(format string) func(s string) error {
	compiled := sync.OnceValues(func() (*jsonschema.Schema, error) {
		lib := jsonschema.NewCompiler()
		lib.AssertFormat()
		if err := lib.AddResource(base, map[string]any{"format": format}); err != nil {
			return nil, err
		}
		return lib.Compile(base)
	})
	return func(s string) error {
		sch, err := compiled()
		if err != nil {
			return err
		}
		return sch.Validate(s)
	}
}

var (
	standardDateTime = standard("date-time")
	standardTime     = standard("time")
	standardEmail    = standard("email")
	hasOffset        = regexp.MustCompile(`([zZ]|[+-][0-9]{2}:[0-9]{2})$`)
	durationRE       = regexp.MustCompile(`^[+-]?P(N?W|(NY)?(NM)?(ND)?(T(NH)?(NM)?(NS)?)?)$`)
)

// withOffset gives a time without an offset, which Python calls naive, that of UTC.
func withOffset(s string) string {
	if hasOffset.MatchString(s) {
		return s
	}
	return s + "Z"
}

func isDateTime(s string) error {
	day, clock, _ := strings.Cut(s, "T")
	if len(day) != len("2006-01-02") {
		return standardDateTime(s) // a lower-case t, or no time at all
	}
	return standardDateTime(day + "T" + withOffset(clock))
}

func isTime(s string) error { return standardTime(withOffset(s)) }

// decimal is a number in a duration. Its last part may have a fraction, and so have
// those of some writers.
var decimal = regexp.MustCompile(`[0-9]+([.,][0-9]+)?`)

func isDuration(s string) error {
	// Each number becomes N, so that the shape is left; an N of the input is none.
	shape := decimal.ReplaceAllString(strings.ReplaceAll(s, "N", "?"), "N")
	if !durationRE.MatchString(shape) || !strings.Contains(shape, "N") || strings.HasSuffix(shape, "T") {
		return errors.New("not a duration such as PT1H30M, P2D or -PT0.5S")
	}
	return nil
}

func isIPv4(s string) error {
	if a, err := netip.ParseAddr(s); err != nil || !a.Is4() {
		return errors.New("not four decimals from 0 to 255")
	}
	return nil
}

func isEmail(s string) error {
	if strings.HasPrefix(s, "@") {
		return errors.New("nothing before @")
	}
	return standardEmail(s)
}

// uriTemplate is the grammar of RFC 6570: literals, and expressions with an operator,
// variables, and their modifiers.
var uriTemplate = func() *regexp.Regexp {
	const (
		name = `(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*`
		spec = name + `(?:\*|:[1-9][0-9]{0,3})?`
		expr = `\{[+#./;?&]?` + spec + `(?:,` + spec + `)*\}`
		text = "[^\\x00-\\x20\\x7f\"<>\\\\^`{|}%]|%[0-9A-Fa-f]{2}"
	)
	return regexp.MustCompile(`^(?:` + text + `|` + expr + `)*$`)
}()

func isURITemplate(s string) error {
	if !uriTemplate.MatchString(s) {
		return errors.New("not a template such as /items/{id}{?page,size}")
	}
	return nil
}
