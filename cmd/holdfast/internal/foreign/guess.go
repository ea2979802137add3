package foreign

import (
	"encoding/json"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Names that mean a secret, by the words in them.
var (
	// secretWords mean one wherever they stand, whatever the type of the value is.
	secretWords = []string{"password", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials"}
	// textWords mean one when the value is text: max_tokens is a number.
	textWords = []string{"token", "tokens", "dsn", "apikey", "pass", "bearer", "jwt", "cookie", "salt", "pin"}
	// lastWords mean one at the end of a name, or of a name before a unit such as id.
	lastWords = []string{"key", "keys", "auth"}
	// notSecret are names with key or token that are none.
	notSecret = regexp.MustCompile(`(?i)(public|primary|partition|sort|routing|cache|foreign|group|index|hot|shortcut)_?keys?$|` +
		`^(max|min|num|total|n)_?.*tokens?$|tokens?_?(limit|count|budget|window|size|ttl|expiry|timeout|interval|type|header|url|endpoint|issuer)$`)
	// fileName is a name that says where a secret is, such as DB_PASSWORD_FILE.
	fileName = regexp.MustCompile(`(?i)(file|path|dir)$`)
)

// Values that have a secret in them, whatever their name is.
var (
	privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`)
	inDSN      = regexp.MustCompile(`(?i)\b(password|passwd|pwd|secret|token|accountkey|sharedaccesskey|api_?key)\s*=\s*[^\s;&]`)
	bearer     = regexp.MustCompile(`^(?i:bearer|basic) [A-Za-z0-9+/_=.~-]{8,}$`)
	wellKnown  = regexp.MustCompile(`^(gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|sk_live_|rk_live_|AKIA|ASIA|eyJ[A-Za-z0-9_-]+\.eyJ)[A-Za-z0-9_.-]{8,}$`)
)

// words splits a name at _ - . $ and at the humps of camelCase.
func words(name string) []string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		hump := i > 0 && unicode.IsUpper(r) &&
			(unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if hump {
			b.WriteByte(' ')
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			r = ' '
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.Fields(b.String())
}

// secretName reports whether a name means a secret; isText says whether its value is text.
func secretName(name string, isText bool) bool {
	list := words(name)
	has := func(set []string) bool {
		return slices.ContainsFunc(list, func(w string) bool {
			return slices.Contains(set, strings.TrimRight(w, "0123456789")) // password2
		})
	}
	if has(secretWords) {
		return true
	}
	if !isText || notSecret.MatchString(name) || len(list) == 0 {
		return false
	}
	return has(textWords) || slices.Contains(lastWords, strings.TrimRight(list[len(list)-1], "0123456789"))
}

// secretText reports whether a text has a secret in it.
func secretText(s string) bool {
	if privateKey.MatchString(s) || inDSN.MatchString(s) || bearer.MatchString(s) || wellKnown.MatchString(s) {
		return true
	}
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return unicode.IsSpace(r) || r == ',' || r == ';' }) {
		if !strings.Contains(part, "@") || !strings.Contains(part, "://") {
			continue
		}
		u, err := url.Parse(part)
		if err != nil { // with a % or a space in the password it is one all the same
			_, rest, _ := strings.Cut(part, "://")
			userinfo, _, _ := strings.Cut(rest, "@")
			if strings.Contains(userinfo, ":") {
				return true
			}
			continue
		}
		if password, ok := u.User.Password(); ok && password != "" {
			return true
		}
	}
	return false
}

// LooksSecret reports whether a value of JSON is probably a secret, by its key or by itself.
func LooksSecret(key string, value []byte) bool {
	v, err := conf.ParseJSON(value, 2*conf.MaxDocument)
	if err != nil {
		return true
	}
	path := strings.Split(conf.PlainKey(key), ".")
	for _, above := range path[:len(path)-1] {
		if !isBool(v) && v != nil && secretName(above, false) {
			return true
		}
	}
	return guessed(path[len(path)-1], v)
}

// guessed reports whether the value under a name is probably a secret, or has one in it.
func guessed(name string, v any) bool {
	switch v := v.(type) {
	case sealed:
		return true
	case nil, bool:
		return false
	case text:
		return guessed(name, string(v))
	case string:
		isFile := fileName.MatchString(name) && (strings.HasPrefix(v, "/") || strings.HasPrefix(v, "./"))
		return !isFile && secretName(name, !isSmall(v)) || secretText(v)
	case json.Number:
		return secretName(name, !isSmall(v.String()))
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return guessed(name, e) })
	case map[string]any:
		for k, e := range v {
			if guessed(k, e) || secretName(name, false) && guessed(name, e) {
				return true
			}
		}
	}
	return false
}

// isSmall reports whether a text is a number that is too short for a secret.
func isSmall(s string) bool { return isNumber(s) && len(s) < 6 }

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// typed is the value that a text has by its spelling. It is text unless the environment of
// the service has it spelled the same.
func typed(s string) any {
	switch {
	case s == "true":
		return true
	case s == "false":
		return false
	case !jsonNumber.MatchString(s) || s == "-0" || strings.ContainsAny(s, "eE"):
		return s
	case !strings.Contains(s, "."):
		if _, err := conf.ParseJSON([]byte(s), len(s)); err != nil {
			return s
		}
		return json.Number(s)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(f) < 1e-6 || math.Abs(f) >= 1e21 || strconv.FormatFloat(f, 'f', -1, 64) != s {
		return s
	}
	return json.Number(s)
}
