package apply

import (
	"bytes"
	"encoding/json"
)

// differ compares documents. It has the space for their members.
type differ struct{ a, b []jsonMember }

// differing reduces two documents to the members that are not in both with the same
// value. Documents are in canonical form; for any others, ok is false.
func (d *differ) differing(a, b json.RawMessage) (onlyA, onlyB json.RawMessage, ok bool) {
	as, okA := jsonMembers(a, d.a)
	bs, okB := jsonMembers(b, d.b)
	if !okA || !okB {
		return a, b, false
	}
	d.a, d.b = as, bs
	defer func() { clear(as); clear(bs) }() // it keeps no document
	return without(as, bs), without(bs, as), true
}

// without is the object of the members of a that b does not have.
func without(a, b []jsonMember) json.RawMessage {
	out := json.RawMessage{'{'}
	for _, m := range a {
		for len(b) > 0 && bytes.Compare(b[0].name, m.name) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || !bytes.Equal(b[0].text, m.text) {
			out = m.appendTo(out)
		}
	}
	return append(out, '}')
}

func (m jsonMember) appendTo(doc []byte) []byte {
	if len(doc) > 1 {
		doc = append(doc, ',')
	}
	return append(doc, m.text...)
}
