package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const listenerID = "mqtt"

// accept accepts connections until the listener is closed. It retries temporary errors, such
// as a lack of file descriptors.
func (b *Broker) accept(ctx context.Context) error {
	for delay := time.Duration(0); ; {
		nc, err := b.listener.Accept()
		if err == nil {
			delay = 0
			b.admit(nc)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return conf.Errorf(conf.CodeInternal, "the MQTT listener failed: %w", err)
		}
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		b.log.Warn("cannot accept an MQTT connection", "err", err, "retry_in", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil
		}
	}
}

// admit checks the limits, and starts the goroutine of a connection.
func (b *Broker) admit(nc net.Conn) {
	ip := nc.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(ip); err == nil {
		ip = host
	}
	if b.o.TLS != nil {
		nc = tls.Server(nc, b.o.TLS)
	}
	c := newConn(b, nc, ip)
	b.mu.Lock()
	full, crowded, stopping := len(b.conns) >= b.o.Limits.Connections, b.perIP[ip] >= b.o.Limits.PerIP, b.stopping
	if !full && !crowded && !stopping {
		b.conns[c] = struct{}{}
		b.perIP[ip]++
		b.work.Go(func() { b.serve(c) })
	}
	b.mu.Unlock()
	switch {
	case stopping:
	case full:
		c.reject(ReasonConnections)
		if b.o.OnFull != nil {
			b.o.OnFull()
		}
	case crowded:
		c.reject(ReasonPerIP)
	default:
		b.counters.accepted.Add(1)
		return
	}
	_ = c.Close()
}

// serve runs one connection. A panic of mochi ends only this connection
// (mochi-mqtt/server#501).
func (b *Broker) serve(c *conn) {
	defer b.remove(c)
	defer func() {
		if r := recover(); r != nil {
			c.reject(ReasonPanic)
			alarm.BrokerPanic.Report(b.log, "remote", c.RemoteAddr().String(), "panic", r, "stack", string(debug.Stack()))
		}
	}()
	_ = c.Conn.SetReadDeadline(time.Now().Add(b.o.Limits.Connect))
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = t.SetWriteDeadline(time.Now().Add(b.o.Limits.Connect))
		if t.Handshake() != nil {
			c.reject(ReasonTLS)
			return
		}
	}
	err := b.server.EstablishConnection(listenerID, c)
	b.classify(c, err)
}

// classify counts a connection that ended by a fault of its client. A client that just
// closes it is not counted.
func (b *Broker) classify(c *conn, err error) {
	switch code, isCode := errors.AsType[packets.Code](err); {
	case err == nil, c.closing.Load():
	case isCode && code.Code == packets.ErrPacketTooLarge.Code:
		c.reject(ReasonTooLarge)
	case isCode && code.Code >= packets.ErrUnspecifiedError.Code:
		c.reject(ReasonMalformed)
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.established:
		c.reject(ReasonNoConnect)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.reject(ReasonSilent)
	}
}

// remove removes a connection everywhere. mochi does its part only if the connection ended
// without a panic.
func (b *Broker) remove(c *conn) {
	_ = c.Close()
	b.mu.Lock()
	delete(b.conns, c)
	b.topics.removeConn(c)
	if b.perIP[c.ip]--; b.perIP[c.ip] <= 0 {
		delete(b.perIP, c.ip)
	}
	cl := c.client
	b.mu.Unlock()
	if cl == nil {
		return
	}
	b.server.UnsubscribeClient(cl)
	if known, ok := b.server.Clients.Get(cl.ID); ok && known == cl {
		b.server.Clients.Delete(cl.ID)
	}
}

func (b *Broker) setClient(c *conn, cl *mochi.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.client = cl
}

// clientOf returns the client of c, nil before its CONNECT is accepted.
func (b *Broker) clientOf(c *conn) *mochi.Client {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return c.client
}

func (b *Broker) startWriter(c *conn) {
	b.work.Go(c.writeLoop)
}
