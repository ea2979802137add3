package conf

import (
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

// fastJSON decodes JSON whose strings have no escapes, to the same values as
// parseCarefully. It returns false for all other input, and names no errors. data must
// be valid UTF-8.
//
// Each write is parsed several times on each member. Without fastJSON, the token stream
// of encoding/json is the largest single cost of a write.
func fastJSON(data []byte, depth int) (any, bool) {
	p := fastParser{jsonscan.Scanner{Data: data}, string(data)}
	p.Space()
	v, ok := p.value(depth)
	p.Space()
	return v, ok && p.End()
}

// fastParser returns strings that are parts of text, a copy of the data.
type fastParser struct {
	jsonscan.Scanner
	text string
}

func (p *fastParser) value(levels int) (any, bool) {
	if levels < 0 {
		return nil, false
	}
	switch p.Peek() {
	case '{':
		return p.object(levels - 1)
	case '[':
		return p.array(levels - 1)
	case '"':
		return p.str()
	case 't':
		return true, p.Literal("true")
	case 'f':
		return false, p.Literal("false")
	case 'n':
		return nil, p.Literal("null")
	}
	from := p.Pos
	whole, ok := p.Number()
	if !ok {
		return nil, false
	}
	n := json.Number(p.text[from:p.Pos])
	if whole && len(n) <= 15 { // below 2^53
		return n, true
	}
	return n, checkNumber(n) == nil
}

func (p *fastParser) object(levels int) (any, bool) {
	m := map[string]any{}
	p.Pos++
	p.Space()
	if p.Accept('}') {
		return m, true
	}
	for {
		key, ok := p.str()
		if p.Space(); !ok || !p.Accept(':') {
			return nil, false
		}
		p.Space()
		v, ok := p.value(levels)
		if !ok {
			return nil, false
		}
		before := len(m)
		if m[key] = v; len(m) == before {
			return nil, false // a duplicate key
		}
		p.Space()
		if p.Accept('}') {
			return m, true
		}
		if !p.Accept(',') {
			return nil, false
		}
		p.Space()
	}
}

func (p *fastParser) array(levels int) (any, bool) {
	a := []any{}
	p.Pos++
	p.Space()
	if p.Accept(']') {
		return a, true
	}
	for {
		v, ok := p.value(levels)
		if !ok {
			return nil, false
		}
		a = append(a, v)
		p.Space()
		if p.Accept(']') {
			return a, true
		}
		if !p.Accept(',') {
			return nil, false
		}
		p.Space()
	}
}

func (p *fastParser) str() (string, bool) {
	from := p.Pos
	switch p.String() {
	case jsonscan.ASCII, jsonscan.Unescaped:
		return p.text[from+1 : p.Pos-1], true
	}
	return "", false
}
