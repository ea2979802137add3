package values

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Delta is one key that two documents have differently. A nil side has no such key.
type Delta struct {
	Key string          `json:"key"`
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
}

// Compare compares two JSON objects key by key, in the order of the keys.
func Compare(before, after []byte) ([]Delta, error) {
	x, err := Flatten(before)
	if err != nil {
		return nil, err
	}
	y, err := Flatten(after)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for k := range x {
		all[k] = true
	}
	for k := range y {
		all[k] = true
	}
	out := []Delta{}
	for _, k := range conf.SortedKeys(all) {
		if !bytes.Equal(x[k], y[k]) {
			out = append(out, Delta{Key: k, Old: x[k], New: y[k]})
		}
	}
	return out, nil
}

// Same compares two JSON texts, ignoring spaces and the order of members. What is no JSON is
// the same as nothing else.
func Same(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Flatten turns a JSON object into its dotted keys, with compact JSON as values.
// Arrays and empty objects are values. No document at all is an empty one.
func Flatten(doc []byte) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(doc)) == 0 {
		return out, nil
	}
	m, err := conf.ParseObject(doc, 2*conf.MaxDocument)
	if err != nil {
		return nil, err
	}
	return out, flattenInto(out, m, nil, m)
}

func flattenInto(out map[string]json.RawMessage, doc map[string]any, at conf.Path, m map[string]any) error {
	for k, v := range m {
		path := append(at[:len(at):len(at)], k)
		if sub, ok := v.(map[string]any); ok && len(sub) > 0 {
			if err := flattenInto(out, doc, path, sub); err != nil {
				return err
			}
			continue
		}
		text, err := Compact(v)
		if err != nil {
			return err
		}
		out[path.KeyIn(doc)] = text
	}
	return nil
}

// Compact is v as JSON without spaces and without escapes for HTML.
func Compact(v any) (json.RawMessage, error) {
	text, err := cli.JSON(v, "")
	return bytes.TrimSpace(text), err
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// WriteDeltas writes ds as removed and added lines.
func WriteDeltas(w io.Writer, ds []Delta, color bool) {
	line := func(sign, tint, key string, value json.RawMessage) {
		if value == nil {
			return
		}
		if color {
			fmt.Fprintf(w, "%s%s %s = %s%s\n", tint, sign, cli.Clean(key), cli.Clean(string(value)), plain)
			return
		}
		fmt.Fprintf(w, "%s %s = %s\n", sign, cli.Clean(key), cli.Clean(string(value)))
	}
	for _, d := range ds {
		line("-", red, d.Key, d.Old)
		line("+", green, d.Key, d.New)
	}
}
