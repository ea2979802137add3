package schema

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ParseText parses the value of a field from the command line. Strings are taken as
// they are; numbers, arrays and objects are JSON; a boolean is true, yes, on or the
// opposite; "null" is null where the field allows it. Effective checks the range.
func ParseText(f conf.Field, text string) (any, error) {
	want := fieldTypes(f)
	word := strings.TrimSpace(text)
	if want&isNull != 0 && word == "null" {
		return nil, nil
	}
	if f.Type == conf.TypeEnum && want&isString != 0 && slices.Contains(f.Allowed, text) && want&^isNull == isString {
		return text, nil
	}
	if want&^isNull == isString {
		return text, nil
	}
	if want&isBool != 0 {
		switch strings.ToLower(word) {
		case "true", "yes", "on":
			return true, nil
		case "false", "no", "off":
			return false, nil
		}
	}
	v, err := conf.ParseJSON([]byte(word), conf.MaxDocument)
	n, isNum := v.(json.Number)
	switch {
	case err == nil && isNum && !isBoundedNumber(string(n)):
		return nil, badText(f, numberRule)
	case err == nil && typeOf(v)&want != 0:
		return v, nil
	case want&isString != 0:
		return text, nil
	}
	msg := "must be " + joinOr(articles(want.names()))
	if err == nil {
		msg += ", got " + conf.KindOf(v)
		if isNum {
			msg = strings.TrimSuffix(msg, "a number") + conf.Clip(string(n))
		}
	} else if want&(isArray|isObject) != 0 {
		msg += " as JSON: " + err.Error()
	} else {
		msg += ", got other text"
	}
	if f.Min != nil && f.Max != nil {
		msg += " (allowed " + f.Min.String() + " to " + f.Max.String() + ")"
	}
	return nil, badText(f, msg)
}

// Wants says what a field takes, for the error about a text that must not be shown.
func Wants(f conf.Field) string {
	out := joinOr(articles(fieldTypes(f).names()))
	switch {
	case len(f.Allowed) > 0:
		out += ": " + joinOr(f.Allowed)
	case f.Min != nil && f.Max != nil:
		out += " from " + f.Min.String() + " to " + f.Max.String()
	case f.Min != nil:
		out += ", at least " + f.Min.String()
	case f.Max != nil:
		out += ", at most " + f.Max.String()
	case f.Pattern != nil:
		out += " that matches " + conf.Clip(*f.Pattern)
	}
	return out
}

func badText(f conf.Field, msg string) error {
	e := conf.Errorf(conf.CodeInvalid, "%s %s", f.Key, msg)
	e.Details = []conf.FieldError{{Key: f.Key, Message: msg}}
	return e
}

// fieldTypes returns the JSON types that a field accepts.
func fieldTypes(f conf.Field) types {
	if len(f.JSONTypes) > 0 {
		var t types
		for _, n := range f.JSONTypes {
			t |= typeNames[n]
		}
		return t
	}
	switch f.Type {
	case conf.TypeInteger:
		return isInt
	case conf.TypeFloat:
		return isNumber
	case conf.TypeBoolean:
		return isBool
	default:
		return isString
	}
}
