package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/pki"
)

// Reason is why a connection was rejected.
type Reason string

// The reasons. Up to ReasonDuplicate the other side is not authenticated.
const (
	ReasonCrowded       Reason = "crowded"        // too many handshakes at once
	ReasonConns         Reason = "connections"    // too many connections, in all
	ReasonSource        Reason = "source"         // too many from one address
	ReasonTimeout       Reason = "timeout"        // no handshake within its time
	ReasonOversized     Reason = "oversized"      // a handshake of too many bytes
	ReasonNotTLS        Reason = "not_tls"        // bytes other than TLS
	ReasonProtocol      Reason = "protocol"       // an unsupported TLS version or ALPN protocol
	ReasonHungUp        Reason = "hung_up"        // the other side closed in the middle
	ReasonRefusedUs     Reason = "refused_us"     // the other side does not trust this agent
	ReasonNoCertificate Reason = "no_certificate" // where one is needed
	ReasonUntrusted     Reason = "untrusted"      // a certificate of another CA, or not for this use
	ReasonExpired       Reason = "expired"        // or not valid yet, by this clock
	ReasonName          Reason = "name"           // from the right CA, but not of a member of this cluster
	ReasonDuplicate     Reason = "duplicate"      // another agent with the node id of this one
	ReasonRole          Reason = "role"           // not allowed for this role
	ReasonRemoved       Reason = "removed"        // Options.Allowed rejects it
	ReasonPeer          Reason = "peer"           // too many connections of one member
	ReasonNotServing    Reason = "not_serving"    // this agent does not serve that now
	ReasonShutdown      Reason = "shutdown"
	ReasonJoinToken     Reason = "join_token" // not a connection: a rejected join token
	ReasonJoinRate      Reason = "join_rate"  // not a connection: too many failed joins from one address
)

// Refused is one rejected connection or join.
type Refused struct {
	Reason   Reason
	Protocol string      // "" if it ended before ALPN
	Source   string      // IP address and port
	Peer     pki.Peer    // empty if not authenticated
	Token    TokenReason // with ReasonJoinToken: the actual reason
	TokenID  string      // with ReasonJoinToken: from the request
	NodeID   string      // with ReasonJoinToken: from the request
	Err      error
}

// Stats counts connections to the listener.
type Stats struct {
	Handshaking int               // now
	Open        int               // accepted connections that are open now
	Accepted    map[string]uint64 // by protocol
	Refused     map[Reason]uint64
}

type counters struct {
	mu       sync.Mutex
	accepted map[string]uint64
	rejected map[Reason]uint64
}

func newCounters() *counters {
	return &counters{accepted: map[string]uint64{}, rejected: map[Reason]uint64{}}
}

func (c *counters) accept(proto string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted[proto]++
}

func (c *counters) reject(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected[r]++
}

func (c *counters) copy() (accepted map[string]uint64, refused map[Reason]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.accepted), maps.Clone(c.rejected)
}

// rejection is the error of the callbacks of a handshake.
type rejection struct {
	reason Reason
	err    error
}

func (r *rejection) Error() string {
	if r.err == nil {
		return "refused: " + string(r.reason)
	}
	return "refused: " + string(r.reason) + ": " + r.err.Error()
}

func (r *rejection) Unwrap() error { return r.err }

var errOversized = errors.New("the handshake is too large")

// reasonOf classifies the error of a TLS handshake.
func reasonOf(err error) Reason {
	if r, ok := errors.AsType[*rejection](err); ok {
		return r.reason
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return ReasonNotTLS
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return ReasonExpired
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return ReasonUntrusted
	}
	// An alert of the other side: its type is not exported, its text is.
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" && strings.Contains(e.Err.Error(), "certificate") {
		return ReasonRefusedUs
	}
	switch {
	case errors.Is(err, errOversized):
		return ReasonOversized
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ReasonHungUp
	}
	return ReasonProtocol
}
