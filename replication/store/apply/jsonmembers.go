package apply

import (
	"bytes"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

// jsonMember is a member of an object: its name in quotes, and all of its text.
type jsonMember struct{ name, text []byte }

// jsonMembers splits a compact JSON object whose names ascend. The members are in the space
// of out, where there is enough.
func jsonMembers(doc []byte, out []jsonMember) (_ []jsonMember, ok bool) {
	out = out[:0]
	s := jsonscan.Scanner{Data: doc, Compact: true}
	if !s.Accept('{') {
		return nil, false
	}
	if s.Accept('}') {
		return out, s.End()
	}
	for {
		start := s.Pos
		kind := s.String()
		name := doc[start:s.Pos]
		if kind == jsonscan.NoString || len(out) > 0 && bytes.Compare(out[len(out)-1].name, name) >= 0 {
			return nil, false
		}
		if !s.Accept(':') || !s.Value(conf.MaxDepth) {
			return nil, false
		}
		out = append(out, jsonMember{name, doc[start:s.Pos]})
		if s.Accept('}') {
			return out, s.End()
		}
		if !s.Accept(',') {
			return nil, false
		}
	}
}
