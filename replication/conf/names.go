package conf

import (
	"regexp"
	"time"
)

// Limits of the edge. A document over them is refused before anything is stored.
const (
	MaxDocument = 1 << 20 // bytes of one JSON body or document
	MaxSchema   = 1 << 20 // bytes of one schema
	MaxDepth    = 32      // nested arrays and objects
	MaxName     = 128     // bytes of a service, profile or user name
	MaxKey      = 256     // bytes of a dotted key
	MaxReason   = 1024    // bytes of a reason
	MaxInteger  = 1 << 53 // integers beyond are changed by RFC 8785 and refused
)

var (
	serviceRE = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	keyRE     = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)
	profileRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)
)

// CheckService says whether s may name a service, and the rule when not.
func CheckService(s string) error {
	if len(s) > MaxName || !serviceRE.MatchString(s) {
		return Errorf(CodeInvalid, "bad service name %q", clip(s)).
			WithHint("use lower-case letters, digits and hyphens, a letter first: %s, at most %d bytes", serviceRE, MaxName)
	}
	return nil
}

// CheckKey says whether k may name a configuration key, and the rule when not.
func CheckKey(k string) error {
	if len(k) > MaxKey || !keyRE.MatchString(k) {
		return Errorf(CodeInvalid, "bad key %q", clip(k)).
			WithHint("use dotted lower-case names: %s, at most %d bytes", keyRE, MaxKey)
	}
	return nil
}

// CheckProfile says whether s may name a profile.
func CheckProfile(s string) error {
	if len(s) > MaxName || !profileRE.MatchString(s) {
		return Errorf(CodeInvalid, "bad profile name %q", clip(s)).
			WithHint("use letters, digits, dots, hyphens and underscores: %s, at most %d bytes", profileRE, MaxName)
	}
	return nil
}

// clip keeps what an attacker sends out of errors and logs at full length.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// FormatTime writes t as Python's datetime.isoformat() writes UTC:
// 2026-01-02T03:04:05.000006+00:00, without a fraction when it is zero.
func FormatTime(t time.Time) string {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Nanosecond() == 0 {
		return t.Format("2006-01-02T15:04:05+00:00")
	}
	return t.Format("2006-01-02T15:04:05.000000+00:00")
}

// ParseTime reads what FormatTime wrote, and any RFC 3339 time.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, Errorf(CodeInvalid, "bad time %q", clip(s)).
			WithHint("write it as RFC 3339, such as 2026-01-02T03:04:05Z")
	}
	return t.UTC(), nil
}
