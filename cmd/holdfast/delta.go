package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// delta is one key that two documents have differently. A nil side has no such key.
type delta struct {
	Key string          `json:"key"`
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
}

// deltas compares two JSON objects key by key, in the order of the keys.
func deltas(before, after []byte) ([]delta, error) {
	x, err := flatten(before)
	if err != nil {
		return nil, err
	}
	y, err := flatten(after)
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
	out := []delta{}
	for _, k := range conf.SortedKeys(all) {
		if !bytes.Equal(x[k], y[k]) {
			out = append(out, delta{Key: k, Old: x[k], New: y[k]})
		}
	}
	return out, nil
}

// flatten turns a JSON object into its dotted keys, with compact JSON as values.
// Arrays and empty objects are values. No document at all is an empty one.
func flatten(doc []byte) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(doc)) == 0 {
		return out, nil
	}
	m, err := conf.ParseObject(doc, 2*conf.MaxDocument)
	if err != nil {
		return nil, err
	}
	return out, flattenInto(out, "", m)
}

func flattenInto(out map[string]json.RawMessage, prefix string, m map[string]any) error {
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok && len(sub) > 0 {
			if err := flattenInto(out, prefix+k+".", sub); err != nil {
				return err
			}
			continue
		}
		text, err := compact(v)
		if err != nil {
			return err
		}
		out[prefix+k] = text
	}
	return nil
}

// compact is v as JSON without spaces and without escapes for HTML.
func compact(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// writeDeltas writes ds as removed and added lines.
func writeDeltas(w io.Writer, ds []delta, colour bool) {
	line := func(sign, tint, key string, value json.RawMessage) {
		if value == nil {
			return
		}
		if colour {
			fmt.Fprintf(w, "%s%s %s = %s%s\n", tint, sign, clean(key), clean(string(value)), plain)
			return
		}
		fmt.Fprintf(w, "%s %s = %s\n", sign, clean(key), clean(string(value)))
	}
	for _, d := range ds {
		line("-", red, d.Key, d.Old)
		line("+", green, d.Key, d.New)
	}
}
