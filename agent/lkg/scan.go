package lkg

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// cursor reads JSON that is in canonical form: no space between tokens at the
// levels that it looks into, members in ascending order, each once. It is made
// for bytes whose HMAC is right, so it has to be safe and exact, and not to
// explain much. Values that it skips are checked for their grammar and kept as
// they are.
type cursor struct {
	b []byte
	i int
}

func (c *cursor) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s", c.i, fmt.Sprintf(format, args...))
}

func (c *cursor) byte() byte {
	if c.i < len(c.b) {
		return c.b[c.i]
	}
	return 0
}

func (c *cursor) expect(ch byte) error {
	if c.byte() != ch {
		return c.errorf("expected %q", ch)
	}
	c.i++
	return nil
}

// object calls member with each name, in front of the value, which it must read.
func (c *cursor) object(member func(name string) error) error {
	if err := c.expect('{'); err != nil {
		return err
	}
	if c.byte() == '}' {
		c.i++
		return nil
	}
	for last, first := "", true; ; first = false {
		name, err := c.text()
		if err != nil {
			return err
		}
		if !first && name <= last {
			return c.errorf("member %q is there twice or out of order", name)
		}
		last = name
		if err := c.expect(':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if c.byte() == '}' {
			c.i++
			return nil
		}
		if err := c.expect(','); err != nil {
			return err
		}
	}
}

// array calls element in front of each element, which it must read.
func (c *cursor) array(element func() error) error {
	if err := c.expect('['); err != nil {
		return err
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if c.byte() == ']' {
			c.i++
			return nil
		}
		if err := c.expect(','); err != nil {
			return err
		}
	}
}

// text reads a string.
func (c *cursor) text() (string, error) {
	from := c.i
	escaped, err := c.skipString()
	if err != nil {
		return "", err
	}
	if !escaped {
		return string(c.b[from+1 : c.i-1]), nil
	}
	var s string
	if err := json.Unmarshal(c.b[from:c.i], &s); err != nil {
		return "", c.errorf("bad string")
	}
	return s, nil
}

// number reads an unsigned integer.
func (c *cursor) number() (uint64, error) {
	from := c.i
	for ch := c.byte(); ch >= '0' && ch <= '9'; ch = c.byte() {
		c.i++
	}
	n, err := strconv.ParseUint(string(c.b[from:c.i]), 10, 64)
	if err != nil || (c.b[from] == '0' && c.i > from+1) {
		return 0, c.errorf("expected an integer")
	}
	return n, nil
}

func (c *cursor) literal(word string) error {
	if len(c.b)-c.i < len(word) || string(c.b[c.i:c.i+len(word)]) != word {
		return c.errorf("expected %s", word)
	}
	c.i += len(word)
	return nil
}

// raw reads a value of any kind, or of the kind that starts with first, and
// returns its bytes with no room to append.
func (c *cursor) raw(first byte) ([]byte, error) {
	if first != 0 && c.byte() != first {
		return nil, c.errorf("expected %q", first)
	}
	from := c.i
	if err := c.skip(0); err != nil {
		return nil, err
	}
	return c.b[from:c.i:c.i], nil
}

func (c *cursor) space() {
	for ch := c.byte(); ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r'; ch = c.byte() {
		c.i++
	}
}

// skip passes one value.
func (c *cursor) skip(depth int) error {
	if depth > conf.MaxDepth {
		return c.errorf("nested deeper than %d levels", conf.MaxDepth)
	}
	switch ch := c.byte(); {
	case ch == '{' || ch == '[':
		return c.skipContainer(ch, depth)
	case ch == '"':
		_, err := c.skipString()
		return err
	case ch == 't':
		return c.literal("true")
	case ch == 'f':
		return c.literal("false")
	case ch == 'n':
		return c.literal("null")
	case ch == '-' || ch >= '0' && ch <= '9':
		return c.skipNumber()
	}
	return c.errorf("expected a value")
}

func (c *cursor) skipContainer(open byte, depth int) error {
	end := open + 2 // '{' and '}', '[' and ']'
	c.i++
	c.space()
	if c.byte() == end {
		c.i++
		return nil
	}
	for {
		if open == '{' {
			if _, err := c.skipString(); err != nil {
				return err
			}
			c.space()
			if err := c.expect(':'); err != nil {
				return err
			}
			c.space()
		}
		if err := c.skip(depth + 1); err != nil {
			return err
		}
		c.space()
		if c.byte() == end {
			c.i++
			return nil
		}
		if err := c.expect(','); err != nil {
			return err
		}
		c.space()
	}
}

func (c *cursor) skipString() (escaped bool, err error) {
	if err := c.expect('"'); err != nil {
		return false, err
	}
	for i := c.i; i < len(c.b); i++ {
		switch ch := c.b[i]; {
		case ch == '"':
			c.i = i + 1
			return escaped, nil
		case ch < 0x20:
			c.i = i
			return false, c.errorf("control character in a string")
		case ch == '\\':
			escaped = true
			n := escapeLen(c.b[i:])
			if n == 0 {
				c.i = i
				return false, c.errorf("bad escape in a string")
			}
			i += n - 1
		}
	}
	c.i = len(c.b)
	return false, c.errorf("string has no end")
}

// escapeLen is the length of the escape that b starts with, 0 for none.
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
		for _, ch := range b[2:6] {
			if (ch < '0' || ch > '9') && (ch|0x20 < 'a' || ch|0x20 > 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (c *cursor) skipNumber() error {
	digits := func() bool {
		from := c.i
		for ch := c.byte(); ch >= '0' && ch <= '9'; ch = c.byte() {
			c.i++
		}
		return c.i > from
	}
	if c.byte() == '-' {
		c.i++
	}
	if c.byte() == '0' {
		c.i++
	} else if !digits() {
		return c.errorf("bad number")
	}
	if c.byte() == '.' {
		c.i++
		if !digits() {
			return c.errorf("bad number")
		}
	}
	if ch := c.byte(); ch == 'e' || ch == 'E' {
		c.i++
		if ch := c.byte(); ch == '+' || ch == '-' {
			c.i++
		}
		if !digits() {
			return c.errorf("bad number")
		}
	}
	return nil
}
