package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// dial connects to a member, and returns when both sides have accepted each other. want
// is the expected node id, "" for any but this one.
func (t *Transport) dial(ctx context.Context, proto, addr string, want string, layer *RaftLayer) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	tr := t.trust.Load()
	var peer pki.Peer
	cfg := baseConfig(t.opts.Now)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tr.cert, nil }
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		leaf := leafOf(cs)
		if leaf == nil {
			return &rejection{ReasonNoCertificate, nil}
		}
		if err := tr.verifyShown(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, t.opts.Now()); err != nil {
			return err
		}
		var err error
		if peer, err = tr.peer(leaf); err != nil {
			return err
		}
		return t.checkPeer(peer, tr.id.NodeID, want, addr)
	}
	raw, tc, err := clientHandshake(ctx, t.opts.Dial, proto, addr, cfg, t.opts.Limits.Handshake)
	if err != nil {
		return nil, withOwnEnd(err, tr.id, t.opts.Now())
	}
	c := &Conn{Conn: tc, raw: raw, peer: peer, proto: proto, leaf: leafOf(tc.ConnectionState()), layer: layer}
	c.done = func() { t.conns.remove(c) }
	if want != "" && t.opts.Seen != nil {
		t.opts.Seen(peer, addr)
	}
	if !t.conns.add(c) {
		_ = raw.Close()
		return nil, conf.Errorf(conf.CodeInternal, "the cluster port of this agent is closed: %w", net.ErrClosed)
	}
	if err := allowedStill(t, c); err != nil {
		c.abort()
		return nil, conf.Errorf(conf.CodeDenied, "node %s at %s is not a member: %w", peer.NodeID, addr, err)
	}
	return c, nil
}

// checkPeer checks who answered.
func (t *Transport) checkPeer(p pki.Peer, self, want, addr string) error {
	switch {
	case p.NodeID == self:
		return &rejection{ReasonDuplicate, conf.Errorf(conf.CodeDenied, "at %s answers an agent with the node id of this one, %s", addr, self).
			WithHint("if it is another agent, set another CONFIG_NODE_ID for one of the two, and join again; " +
				"if it is this agent, the address is wrong")}
	case want != "" && p.NodeID != want:
		return &rejection{ReasonName, conf.Errorf(conf.CodeDenied, "at %s answers node %s, not %s", addr, p.NodeID, want).
			WithHint("list the known addresses: holdfast cluster members")}
	}
	if err := t.allowed(p); err != nil {
		return &rejection{ReasonRemoved, conf.Errorf(conf.CodeDenied, "node %s at %s is not a member: %w", p.NodeID, addr, err)}
	}
	return nil
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// clientHandshake does a handshake as the client, including the accept code of the other
// side. All verification is in cfg.VerifyConnection.
func clientHandshake(ctx context.Context, dial dialFunc, proto, addr string, cfg *tls.Config, timeout time.Duration) (net.Conn, *tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, unreachable(addr, err)
	}
	if end, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(end)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	cfg.NextProtos = []string{proto}
	// The certificates have no host names; VerifyConnection checks them.
	cfg.InsecureSkipVerify = true
	in := &limitedConn{Conn: raw, left: maxHandshake}
	tc := tls.Client(in, cfg)
	if err := readAcceptCode(tc, proto, addr); err != nil {
		_ = raw.Close()
		if ctx.Err() != nil && !isDenied(err) {
			return nil, nil, unreachable(addr, ctx.Err())
		}
		return nil, nil, err
	}
	in.open.Store(true)
	// If ctx has just ended, its function may set the deadline at any moment.
	if !stop() {
		_ = raw.Close()
		return nil, nil, unreachable(addr, ctx.Err())
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		_ = raw.Close()
		return nil, nil, unreachable(addr, err)
	}
	return raw, tc, nil
}

func isDenied(err error) bool { return conf.CodeOf(err) == conf.CodeDenied }

// readAcceptCode does the TLS handshake and reads the accept code.
func readAcceptCode(tc *tls.Conn, proto, addr string) error {
	if err := tc.Handshake(); err != nil {
		return explain(addr, err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != proto {
		return conf.Errorf(conf.CodeUnsupported, "the agent at %s does not speak %s", addr, proto)
	}
	var b [1]byte
	if _, err := io.ReadFull(tc, b[:]); err != nil {
		return explain(addr, err)
	}
	denied := func(format, hint string) error {
		return conf.Errorf(conf.CodeDenied, format, addr).WithHint("%s", hint)
	}
	switch acceptCode(b[0]) {
	case acceptOK:
		return nil
	case acceptBusy:
		return conf.Errorf(conf.CodeRateLimited, "the agent at %s has too many connections", addr).WithHint("retry in a moment")
	case acceptNotServing:
		return conf.Errorf(conf.CodeUnsupported, "the agent at %s does not serve %s at present", addr, proto).
			WithHint("it may be starting, repairing itself or stopping, and no agent can join at a sidecar: retry, or use another server")
	case acceptRole:
		return denied("the agent at %s rejects this role", "only servers send Raft messages")
	case acceptRemoved:
		return denied("the agent at %s says that this agent is no longer a member of the cluster",
			"join again with a token from: holdfast token create")
	case acceptDuplicate:
		return denied("the agent at %s has the same node id as this one", "set another CONFIG_NODE_ID for one of the two, and join again")
	}
	return conf.Errorf(conf.CodeUnsupported, "the agent at %s answered %d, which this version does not support", addr, b[0])
}

func unreachable(addr string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Addr != nil && op.Addr.String() == addr {
		err = op.Err // without the address, which the text has already
	}
	return conf.Errorf(conf.CodeInternal, "cannot reach the agent at %s: %w", addr, err).
		WithHint("check the address, and that the cluster port of the agent there is open to this machine")
}

// withOwnEnd adds what the other side may have compared when it does not trust this agent:
// the end of its certificate, and the clock.
func withOwnEnd(err error, id *pki.Identity, now time.Time) error {
	e, ok := errors.AsType[*conf.Error](err)
	if !ok || reasonOf(err) != ReasonRefusedUs {
		return err
	}
	out := *e
	return out.WithHint("the certificate of this agent ends at %s, and the clock of this machine says %s: %s",
		conf.FormatTime(id.Cert.NotAfter), conf.FormatTime(now), e.Hint)
}

// explain turns the error of a handshake into one for an operator.
func explain(addr string, err error) error {
	if r, ok := errors.AsType[*rejection](err); ok && r.err != nil && r.reason != ReasonExpired {
		if _, ok := errors.AsType[*conf.Error](r.err); ok {
			return r.err
		}
	}
	denied := func(format, hint string) error {
		return conf.Errorf(conf.CodeDenied, format+": %w", addr, err).WithHint("%s", hint)
	}
	switch reasonOf(err) {
	case ReasonExpired:
		return denied("the certificate of the agent at %s is not good at this time", cmp.Or(conf.HintOf(err), "compare the clocks of the two machines"))
	case ReasonUntrusted, ReasonNoCertificate, ReasonName:
		return denied("the agent at %s is not of this cluster", "check the address")
	case ReasonRefusedUs:
		return denied("the agent at %s does not trust this agent",
			"compare the clocks and the clusters of the two; an agent with an expired certificate must join again")
	case ReasonNotTLS, ReasonProtocol:
		return conf.Errorf(conf.CodeInternal, "at %s answers something else than the cluster port of an agent: %w", addr, err).
			WithHint("check the address and the port")
	}
	return unreachable(addr, err)
}
