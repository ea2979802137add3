package lkg

import (
	"fmt"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/jsonscan"
)

// cursor reads JSON that is in canonical form: no space between tokens at the
// levels that it looks into, members in ascending order, each once. It is made
// for bytes whose HMAC is right, so it has to be safe and exact, and not to
// explain much. Values that it skips are checked for their grammar and kept as
// they are.
type cursor struct{ jsonscan.Scanner }

func (c *cursor) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s", c.Pos, fmt.Sprintf(format, args...))
}

func (c *cursor) expect(ch byte) error {
	if !c.Accept(ch) {
		return c.errorf("expected %q", ch)
	}
	return nil
}

// object calls member with each name, in front of the value, which it must read.
func (c *cursor) object(member func(name string) error) error {
	if err := c.expect('{'); err != nil {
		return err
	}
	if c.Accept('}') {
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
		if c.Accept('}') {
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
		if c.Accept(']') {
			return nil
		}
		if err := c.expect(','); err != nil {
			return err
		}
	}
}

// text reads a string.
func (c *cursor) text() (string, error) {
	s, ok := c.Text()
	if !ok {
		return "", c.errorf("expected a string")
	}
	return s, nil
}

// number reads an unsigned integer.
func (c *cursor) number() (uint64, error) {
	n, ok := c.Uint()
	if !ok {
		return 0, c.errorf("expected an integer")
	}
	return n, nil
}

func (c *cursor) literal(word string) error {
	if !c.Literal(word) {
		return c.errorf("expected %s", word)
	}
	return nil
}

// raw reads a value of any kind, or of the kind that starts with first, and
// returns its bytes with no room to append.
func (c *cursor) raw(first byte) ([]byte, error) {
	if first != 0 && c.Peek() != first {
		return nil, c.errorf("expected %q", first)
	}
	from := c.Pos
	if !c.Value(conf.MaxDepth) {
		return nil, c.errorf("expected a value of at most %d levels", conf.MaxDepth)
	}
	return c.Data[from:c.Pos:c.Pos], nil
}
