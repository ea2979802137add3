package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/pki"
)

// Conn is a connection whose other end is authenticated.
type Conn struct {
	net.Conn // TLS
	raw      net.Conn
	peer     pki.Peer
	proto    string
	leaf     *x509.Certificate // nil for a joiner
	inbound  bool
	write    time.Duration // for one write of an accepted connection
	layer    *RaftLayer    // nil unless it is Raft's

	once sync.Once
	done func()
}

// Peer returns the member at the other end; its NodeID is empty for a joiner.
func (c *Conn) Peer() pki.Peer { return c.peer }

// Read is net.Conn's. An accepted connection that this agent closes returns io.EOF, since
// raft logs all other errors.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.inbound && err != nil && errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Write is net.Conn's, with a deadline for each write of an accepted connection. The
// caller that dialed a connection sets its deadlines.
func (c *Conn) Write(b []byte) (int, error) {
	if c.inbound {
		if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// Close ends the connection with a TLS close notification.
func (c *Conn) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}

// abort ends the connection without waiting for the other side to read anything.
func (c *Conn) abort() {
	c.once.Do(c.done)
	_ = c.raw.Close()
}

// maxHandshake bounds the bytes of a handshake; ours have 3 KiB.
const maxHandshake = 32 << 10

// limitedConn limits the bytes that are read from a connection until open is set.
type limitedConn struct {
	net.Conn
	left int
	open atomic.Bool
}

func (m *limitedConn) Read(b []byte) (int, error) {
	if m.open.Load() {
		return m.Conn.Read(b)
	}
	if m.left <= 0 {
		return 0, errOversized
	}
	n, err := m.Conn.Read(b[:min(len(b), m.left)])
	m.left -= n
	return n, err
}

// acceptCode is the byte that the accepting side sends after the TLS handshake.
type acceptCode byte

const (
	acceptOK acceptCode = iota + 1
	acceptBusy
	acceptNotServing
	acceptRole
	acceptRemoved
	acceptDuplicate
)

func acceptCodeOf(r Reason) acceptCode {
	switch r {
	case "":
		return acceptOK
	case ReasonNotServing, ReasonShutdown:
		return acceptNotServing
	case ReasonRole:
		return acceptRole
	case ReasonRemoved:
		return acceptRemoved
	case ReasonDuplicate:
		return acceptDuplicate
	default:
		return acceptBusy
	}
}

// leafOf returns the certificate of the other side, nil if it sent none.
func leafOf(cs tls.ConnectionState) *x509.Certificate {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	return cs.PeerCertificates[0]
}
