package conf

import (
	"regexp"
	"strings"
	"time"
)

// Limits of input. The APIs reject a document over them before anything is stored.
const (
	MaxDocument = 1 << 20 // bytes of one JSON body or document
	MaxSchema   = 1 << 20 // bytes of one schema
	MaxDepth    = 32      // nested arrays and objects of a document

	MaxSchemaDepth = 56      // and of a schema
	MaxName        = 128     // bytes of a service, profile or user name
	MaxKey         = 256     // bytes of a dotted key
	MaxReason      = 1024    // bytes of a reason
	MaxInteger     = 1 << 53 // larger integers are rejected: RFC 8785 changes them
)

var (
	serviceRE = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	anyKeyRE  = regexp.MustCompile(`^[A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+)*$`)
	keyRE     = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)
	profileRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)
)

// CheckService checks the name of a service.
func CheckService(s string) error {
	return checkName("service name", s, MaxName, serviceRE, "lower-case letters, digits and hyphens, a letter first")
}

// CheckKey checks a configuration key.
func CheckKey(k string) error {
	return checkName("key", k, MaxKey, keyRE, "dotted lower-case names")
}

// CheckAnyKey checks a configuration key of a service whose schema says "x-keys": "any",
// or of one that is not known yet.
func CheckAnyKey(k string) error {
	return checkName("key", k, MaxKey, anyKeyRE, "dotted names of letters, digits and _ - $")
}

// VariableName is the environment variable of a key: in upper case, with an underscore
// for every character that a variable name cannot have.
func VariableName(key string) string {
	b := []byte(strings.ToUpper(key))
	for i, c := range b {
		if !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 0) {
			b[i] = '_'
		}
	}
	return string(b)
}

// CheckProfile checks the name of a profile.
func CheckProfile(s string) error {
	return checkName("profile name", s, MaxName, profileRE, "letters, digits, dots, hyphens and underscores")
}

func checkName(what, s string, max int, re *regexp.Regexp, rule string) error {
	if len(s) > max || !re.MatchString(s) {
		return Errorf(CodeInvalid, "bad %s %q", what, Clip(s)).WithHint("use %s: %s, at most %d bytes", rule, re, max)
	}
	return nil
}

// MaxLead is how far a signature may be ahead of the clock before the leader goes back to
// its own time. Less than that is the usual difference of two leaders' clocks.
const MaxLead = time.Minute

// FormatTime formats t as Python's datetime.isoformat() does for UTC:
// 2026-01-02T03:04:05.000006+00:00, without a fraction when it is zero.
func FormatTime(t time.Time) string {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Nanosecond() == 0 {
		return t.Format("2006-01-02T15:04:05+00:00")
	}
	return t.Format("2006-01-02T15:04:05.000000+00:00")
}

// ParseTime parses any RFC 3339 time, such as those of FormatTime.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, Errorf(CodeInvalid, "bad time %q", Clip(s)).
			WithHint("write it as RFC 3339, such as 2026-01-02T03:04:05Z")
	}
	return t.UTC(), nil
}
