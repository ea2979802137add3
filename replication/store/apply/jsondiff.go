package apply

import (
	"bytes"
	"encoding/json"
)

// differing cuts two documents down to the members that are not in both with the
// same value. Documents are in canonical form; for any others, ok is false.
func differing(a, b json.RawMessage) (onlyA, onlyB json.RawMessage, ok bool) {
	as, okA := members(a)
	bs, okB := members(b)
	if !okA || !okB {
		return a, b, false
	}
	onlyA, onlyB = json.RawMessage{'{'}, json.RawMessage{'{'}
	for len(as) > 0 || len(bs) > 0 {
		order := 0
		switch {
		case len(as) == 0:
			order = 1
		case len(bs) == 0:
			order = -1
		default:
			order = bytes.Compare(as[0].name, bs[0].name)
		}
		if order == 0 && bytes.Equal(as[0].text, bs[0].text) {
			as, bs = as[1:], bs[1:]
			continue
		}
		if order <= 0 {
			onlyA = as[0].appendTo(onlyA)
			as = as[1:]
		}
		if order >= 0 {
			onlyB = bs[0].appendTo(onlyB)
			bs = bs[1:]
		}
	}
	return append(onlyA, '}'), append(onlyB, '}'), true
}

// member is a member of an object: its name in quotes, and all of its text.
type member struct{ name, text []byte }

func (m member) appendTo(doc []byte) []byte {
	if len(doc) > 1 {
		doc = append(doc, ',')
	}
	return append(doc, m.text...)
}

// members splits a compact JSON object whose names ascend. It takes the text to
// be JSON, as every document in the log is.
func members(doc []byte) (out []member, ok bool) {
	if len(doc) < 2 || doc[0] != '{' {
		return nil, false
	}
	if doc[1] == '}' {
		return nil, len(doc) == 2
	}
	out = make([]member, 0, 64)
	for i := 1; i < len(doc); {
		start := i
		end := stringEnd(doc, i)
		if end < 0 || end >= len(doc) || doc[end] != ':' {
			return nil, false
		}
		name := doc[start:end]
		if len(out) > 0 && bytes.Compare(out[len(out)-1].name, name) >= 0 {
			return nil, false
		}
		i = valueEnd(doc, end+1)
		if i < 0 {
			return nil, false
		}
		out = append(out, member{name, doc[start:i]})
		if doc[i] == '}' {
			return out, i == len(doc)-1
		}
		i++ // the comma
	}
	return nil, false
}

// stringEnd is the offset after the string that begins at i, or -1.
func stringEnd(doc []byte, i int) int {
	if i >= len(doc) || doc[i] != '"' {
		return -1
	}
	for i++; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// valueEnd is the offset of the comma or the brace after the value that begins at i,
// or -1.
func valueEnd(doc []byte, i int) int {
	for depth := 0; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			if i = stringEnd(doc, i); i < 0 {
				return -1
			}
			i--
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}
