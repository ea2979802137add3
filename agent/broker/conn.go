package broker

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// conn is one connection, as mochi reads and writes it. Each write has a deadline, and a
// failed one closes the connection. Responses of mochi and deliveries of the queue take
// turns.
type conn struct {
	net.Conn
	b     *Broker
	ip    string
	queue *sendQueue
	done  chan struct{} // closed by Close

	writeMu    sync.Mutex
	deadlineMu sync.Mutex  // guards the deadline of writes
	closing    atomic.Bool // the broker stops: its deadline of writes stays
	once       sync.Once
	err        error

	// Of the goroutine that reads; set before writeLoop starts.
	client      *mochi.Client
	v5          bool
	established bool // CONNECT was accepted
	publishes   int
	keepAlive   time.Duration // one and a half times that of CONNECT
	rejected    atomic.Bool   // the reason is counted
}

func newConn(b *Broker, nc net.Conn, ip string) *conn {
	return &conn{Conn: nc, b: b, ip: ip, queue: newSendQueue(b.counters), done: make(chan struct{})}
}

// reject counts the reason why this connection ends, once.
func (c *conn) reject(r Reason) {
	if c.rejected.CompareAndSwap(false, true) {
		c.b.counters.reject(r)
		c.b.log.Debug("rejected an MQTT connection", "remote", c.RemoteAddr().String(), "reason", string(r))
	}
}

// Write is for the responses of mochi: one whole packet per call.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0]>>4 == packets.Disconnect && !c.v5 {
		return len(p), nil // MQTT 3.1.1 has no DISCONNECT from the server
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.setWriteDeadline()
	n, err := c.Conn.Write(p)
	return n, c.checkWrite(err)
}

// deliver writes a batch of messages.
func (c *conn) deliver(bufs net.Buffers) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.setWriteDeadline()
	_, err := bufs.WriteTo(c.Conn)
	return c.checkWrite(err)
}

func (c *conn) setWriteDeadline() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if !c.closing.Load() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.b.o.Limits.Write))
	}
}

// checkWrite closes the connection after a failed write: the stream may contain half a
// packet.
func (c *conn) checkWrite(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.closing.Load() {
		c.reject(ReasonSlow)
	}
	c.discardUnsent()
	_ = c.Close()
	return err
}

// discardUnsent makes Close discard what the kernel has buffered for a client that does not read.
func (c *conn) discardUnsent() {
	nc := c.Conn
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

// SetDeadline is called by mochi for the keep alive, before each packet that it reads. It
// must not change the deadline of writes, and mochi rounds one and a half seconds to one.
func (c *conn) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		t = time.Now().Add(c.keepAlive)
	}
	return c.SetReadDeadline(t)
}

// SetWriteDeadline does nothing: Write sets its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Close ends the connection; it may be called any number of times.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.err = c.Conn.Close()
	})
	return c.err
}

// disconnect ends the connection because the broker stops. A client that does not read has
// half a second.
func (c *conn) disconnect() {
	c.deadlineMu.Lock()
	c.closing.Store(true)
	_ = c.Conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	c.deadlineMu.Unlock()
	if cl := c.b.clientOf(c); cl != nil {
		_ = c.b.server.DisconnectClient(cl, packets.ErrServerShuttingDown)
	}
	_ = c.Close()
}

// writeLoop writes the queued messages until the connection ends. A client that acknowledges
// nothing would never receive anything new: it is disconnected, so that it reconnects.
func (c *conn) writeLoop() {
	var unacknowledged <-chan time.Time
	for {
		select {
		case <-c.queue.wake:
		case <-unacknowledged:
			c.reject(ReasonSlow)
			_ = c.Close()
			return
		case <-c.done:
			return
		}
		for {
			bufs, n, blocked := c.queue.batch()
			if n > 0 || !blocked {
				unacknowledged = nil
			}
			if blocked && unacknowledged == nil {
				unacknowledged = time.After(c.b.o.Limits.Ack)
			}
			if n == 0 {
				break
			}
			if c.deliver(bufs) != nil {
				return
			}
			c.b.counters.delivered.Add(uint64(n))
		}
	}
}
