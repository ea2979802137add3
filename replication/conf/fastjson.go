package conf

import (
	"encoding/json"
	"strings"
)

// fastJSON decodes the JSON that documents nearly always are: without escapes in
// its strings. It answers false for anything else, for anything that is wrong, and
// for anything that it would have to think about; ParseJSON's careful parser then
// decides and finds the words. What it accepts, it decodes to the same values.
//
// Each write is parsed several times on each member, which made encoding/json's
// token stream the largest single cost of a write. text is valid UTF-8.
func fastJSON(text string, depth int) (any, bool) {
	p := fastParser{text: text, limit: depth}
	v, ok := p.value(0)
	if !ok {
		return nil, false
	}
	p.space()
	return v, p.at == len(p.text)
}

type fastParser struct {
	text  string
	at    int
	limit int
}

func (p *fastParser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next skips white space and tells the byte behind it, 0 at the end.
func (p *fastParser) next() byte {
	p.space()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *fastParser) value(depth int) (any, bool) {
	if depth > p.limit {
		return nil, false
	}
	switch c := p.next(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == '-' || isDigit(c):
		return p.number()
	case c == 't':
		return true, p.word("true")
	case c == 'f':
		return false, p.word("false")
	case c == 'n':
		return nil, p.word("null")
	default:
		return nil, false
	}
}

func (p *fastParser) word(w string) bool {
	ok := strings.HasPrefix(p.text[p.at:], w)
	p.at += len(w)
	return ok
}

func (p *fastParser) object(depth int) (any, bool) {
	m := map[string]any{}
	p.at++
	if p.next() == '}' {
		p.at++
		return m, true
	}
	for {
		if p.next() != '"' {
			return nil, false
		}
		key, ok := p.str()
		if !ok || p.next() != ':' {
			return nil, false
		}
		p.at++
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		before := len(m)
		if m[key] = v; len(m) == before {
			return nil, false // twice the same key
		}
		switch p.next() {
		case ',':
			p.at++
		case '}':
			p.at++
			return m, true
		default:
			return nil, false
		}
	}
}

func (p *fastParser) array(depth int) (any, bool) {
	a := []any{}
	p.at++
	if p.next() == ']' {
		p.at++
		return a, true
	}
	for {
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		a = append(a, v)
		switch p.next() {
		case ',':
			p.at++
		case ']':
			p.at++
			return a, true
		default:
			return nil, false
		}
	}
}

// str reads a string without escapes and control characters.
func (p *fastParser) str() (string, bool) {
	start := p.at + 1
	for i := start; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.at = i + 1
			return p.text[start:i], true
		case c == '\\' || c < ' ':
			return "", false
		}
	}
	return "", false
}

func (p *fastParser) number() (any, bool) {
	start := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	first := p.at
	digits := p.digits()
	if digits == 0 || (digits > 1 && p.text[first] == '0') {
		return nil, false
	}
	whole := true
	if p.at < len(p.text) && p.text[p.at] == '.' {
		whole = false
		p.at++
		if p.digits() == 0 {
			return nil, false
		}
	}
	if p.at < len(p.text) && (p.text[p.at] == 'e' || p.text[p.at] == 'E') {
		whole = false
		p.at++
		if p.at < len(p.text) && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		if p.digits() == 0 {
			return nil, false
		}
	}
	n := json.Number(p.text[start:p.at])
	if whole && digits <= 15 { // below 2^53
		return n, true
	}
	return n, checkNumber(n) == nil
}

func (p *fastParser) digits() (n int) {
	for ; p.at < len(p.text) && isDigit(p.text[p.at]); p.at++ {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
