package jsonscan

import (
	"encoding/binary"
	"encoding/json"
	"math"
)

// Scanner reads the tokens of Data from Pos on. Its methods pass what they accept.
// After they reject something, Pos is anywhere from where it was to the byte that
// was wrong.
type Scanner struct {
	Data    []byte
	Pos     int
	Compact bool // Value and Space do not accept white space
}

// End reports whether all of Data is read.
func (s *Scanner) End() bool { return s.Pos == len(s.Data) }

// Peek returns the next byte, 0 at the end.
func (s *Scanner) Peek() byte {
	if s.Pos < len(s.Data) {
		return s.Data[s.Pos]
	}
	return 0
}

// Accept passes c.
func (s *Scanner) Accept(c byte) bool {
	if s.Pos < len(s.Data) && s.Data[s.Pos] == c {
		s.Pos++
		return true
	}
	return false
}

// Literal passes the text word.
func (s *Scanner) Literal(word string) bool {
	if end := s.Pos + len(word); end <= len(s.Data) && string(s.Data[s.Pos:end]) == word {
		s.Pos = end
		return true
	}
	return false
}

// Space passes white space, if any.
func (s *Scanner) Space() {
	if s.Pos < len(s.Data) && s.Data[s.Pos] <= ' ' && !s.Compact {
		s.space()
	}
}

func (s *Scanner) space() {
	for ; s.Pos < len(s.Data); s.Pos++ {
		switch s.Data[s.Pos] {
		case ' ', '\t', '\n', '\r':
		default:
			return
		}
	}
}

// StringKind says what is between the quotes of a string.
type StringKind byte

// Kinds of strings.
const (
	NoString  StringKind = iota // not a string
	ASCII                       // ASCII without escapes
	Unescaped                   // other bytes too, without escapes
	Escaped                     // escapes, perhaps of surrogates without their other half
)

// String passes a string with its quotes.
func (s *Scanner) String() StringKind {
	if !s.Accept('"') {
		return NoString
	}
	kind, all := ASCII, byte(0)
	for i := s.Pos + plain(s.Data[s.Pos:]); i < len(s.Data); i++ {
		switch c := s.Data[i]; {
		case c == '"':
			s.Pos = i + 1
			if kind == ASCII && all >= 0x80 {
				return Unescaped
			}
			return kind
		case c < ' ':
			s.Pos = i
			return NoString
		case c == '\\':
			kind = Escaped
			n := escapeLen(s.Data[i:])
			if n == 0 {
				s.Pos = i
				return NoString
			}
			i += n - 1
		default:
			all |= c
		}
	}
	s.Pos = len(s.Data)
	return NoString
}

// plain is how many bytes at the beginning of b, a multiple of eight, are ASCII that a string
// has as it is.
func plain(b []byte) (n int) {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; n+8 <= len(b); n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		// The high bit of a byte is set in one of these when it is no such byte. A byte above
		// one of those may have it too.
		if (w|(w-each*' ')|((w^each*'"')-each)|((w^each*'\\')-each))&high != 0 {
			break
		}
	}
	return n
}

// escapeLen returns the length of the escape that b starts with, 0 for none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// Text passes a string and returns its value.
func (s *Scanner) Text() (string, bool) {
	from := s.Pos
	switch s.String() {
	case NoString:
		return "", false
	case Escaped:
		var text string
		err := json.Unmarshal(s.Data[from:s.Pos], &text)
		return text, err == nil
	default:
		return string(s.Data[from+1 : s.Pos-1]), true
	}
}

// Number passes a number. It is whole if it has neither a fraction nor an exponent.
func (s *Scanner) Number() (whole, ok bool) {
	s.Accept('-')
	if s.Accept('0') {
		if isDigit(s.Peek()) { // no number begins with 00 or 01
			return false, false
		}
	} else if !s.digits() {
		return false, false
	}
	whole = true
	if s.Accept('.') {
		whole = false
		if !s.digits() {
			return false, false
		}
	}
	if s.Accept('e') || s.Accept('E') {
		if !s.Accept('+') {
			s.Accept('-')
		}
		return false, s.digits()
	}
	return whole, true
}

func (s *Scanner) digits() bool {
	from := s.Pos
	for s.Pos < len(s.Data) && isDigit(s.Data[s.Pos]) {
		s.Pos++
	}
	return s.Pos > from
}

// Digits reports whether s consists of 1 to max decimal digits.
func Digits(s string, max int) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= max
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// Uint passes a number that is an unsigned integer, and returns it.
func (s *Scanner) Uint() (n uint64, ok bool) {
	from := s.Pos
	if whole, ok := s.Number(); !ok || !whole {
		return 0, false
	}
	for _, c := range s.Data[from:s.Pos] {
		d := uint64(c) - '0' // large for a minus sign
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = 10*n + d
	}
	return n, true
}

// Value passes a value of any kind in which at most levels arrays and objects
// are around another value. It does not begin or end with white space.
func (s *Scanner) Value(levels int) bool {
	if levels < 0 {
		return false
	}
	switch s.Peek() {
	case '"':
		return s.String() != NoString
	case '{':
		return s.container('}', levels-1)
	case '[':
		return s.container(']', levels-1)
	case 't':
		return s.Literal("true")
	case 'f':
		return s.Literal("false")
	case 'n':
		return s.Literal("null")
	}
	_, ok := s.Number()
	return ok
}

// container passes an object or an array, depending on its last byte.
func (s *Scanner) container(end byte, levels int) bool {
	s.Pos++
	s.Space()
	if s.Accept(end) {
		return true
	}
	for {
		if end == '}' {
			if s.String() == NoString {
				return false
			}
			s.Space()
			if !s.Accept(':') {
				return false
			}
			s.Space()
		}
		if !s.Value(levels) {
			return false
		}
		s.Space()
		if s.Accept(end) {
			return true
		}
		if !s.Accept(',') {
			return false
		}
		s.Space()
	}
}
