package apply

import "bytes"

// jsonMember is a member of an object: its name in quotes, and all of its text.
type jsonMember struct{ name, text []byte }

// jsonMembers splits a compact JSON object whose names ascend. The text
// must be JSON, as every document in the log is.
func jsonMembers(doc []byte) (out []jsonMember, ok bool) {
	if len(doc) < 2 || doc[0] != '{' {
		return nil, false
	}
	if doc[1] == '}' {
		return nil, len(doc) == 2
	}
	out = make([]jsonMember, 0, 64)
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
		out = append(out, jsonMember{name, doc[start:i]})
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
