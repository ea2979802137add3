package connlimit

import "time"

// coarse is by how much a write may last longer than its deadline says.
const coarse = time.Second

// SetWriteDeadline implements net.Conn. With Limits.Coarse the deadline is only noted: the
// next write sets a timer, when that of an earlier one does not do. net/http sets and
// clears a deadline for each response, which would be two changes of a timer each time.
// Then one goroutine at a time may write and set deadlines, and a write that has begun keeps
// its own.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.coarse {
		return c.Conn.SetWriteDeadline(t)
	}
	c.writeBy = t
	return nil
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if !c.coarse {
		return c.Conn.SetDeadline(t)
	}
	c.writeBy = t
	return c.SetReadDeadline(t)
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	if c.coarse {
		if err := c.arm(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// arm sets the timer of the next write.
func (c *Conn) arm() error {
	at := c.writeBy
	switch {
	case at.IsZero():
		if c.armed.IsZero() {
			return nil
		}
	case !c.armed.Before(at) && !c.armed.After(at.Add(coarse)):
		return nil
	default:
		at = at.Add(coarse)
	}
	c.armed = at
	return c.Conn.SetWriteDeadline(at)
}
