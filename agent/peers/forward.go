package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// maxReply bounds the reply to a forwarded request, in bytes.
const maxReply = 64 << 20

// forwardTimeout is how long a leader may take to reply.
const forwardTimeout = 10 * time.Second

// forwardedHeaders are the headers of a request that reach the leader: the caller's
// own credential, and what the request means. The certificate alone says which member
// forwards it.
var forwardedHeaders = []string{"X-Api-Token", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Config-Reason", "User-Agent"}

// callerHeader carries the address of the caller for the access log. It is read only
// in requests of members.
const callerHeader = "X-Holdfast-Caller"

// CallerOf names the caller of a request that another member forwarded. The address is
// what that member claims.
func CallerOf(r *http.Request) string {
	from := "an unknown address"
	if addr, err := netip.ParseAddr(r.Header.Get(callerHeader)); err == nil {
		from = addr.Unmap().WithZone("").String()
	}
	if p, ok := transport.PeerFrom(r.Context()); ok {
		from += " through " + p.NodeID
	}
	return from
}

// Forwarder sends requests of the admin API to the leader; it is admin.Forwarder.
type Forwarder struct {
	*Cluster
	// AwaitLocal waits, within bounds, until this agent has applied what the leader has
	// acknowledged for the request, so that its caller reads its own write here. It adds
	// to the reply whether it has.
	AwaitLocal func(ctx context.Context, target admin.Target, reply http.Header)
}

// Forward sends a request to the leader, once. The leader authorizes it again, and
// replies as if it had been asked itself; its handler for members has no Forwarder,
// so there is no second hop.
func (f *Forwarder) Forward(ctx context.Context, r *http.Request, body []byte) (status int, header http.Header, reply []byte, done bool, err error) {
	if f.IsReadyLeader() {
		return 0, nil, nil, false, nil
	}
	leader, err := f.AwaitLeader(ctx)
	if err != nil {
		return 0, nil, nil, false, err
	}
	if leader == f.Self() {
		return 0, nil, nil, false, nil
	}
	caller := ctx
	ctx, cancel := f.untilLeaderChanges(ctx, leader)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "https://leader"+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, false, err
	}
	// net/http sends a request with an Idempotency-Key again by itself when its
	// connection breaks, and then reports only the second attempt. A body that cannot
	// be read twice prevents that.
	req.Body, req.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	for _, h := range forwardedHeaders {
		if v := r.Header.Values(h); len(v) > 0 {
			req.Header[h] = v
		}
	}
	req.Header.Set(callerHeader, admin.CallerAddr(r))
	resp, err := f.Port.Client(leader).Do(req)
	if err != nil {
		if target := admin.TargetOf(ctx); target.Route == admin.RouteRemoveMember && target.Node == f.Self() && f.IsRemovedBy(ctx, leader) {
			return http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"success":true,"error":null}` + "\n"), true, nil
		}
		return 0, nil, nil, false, forwardError(r.Method, err)
	}
	defer resp.Body.Close()
	reply, err = io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return 0, nil, nil, false, forwardError(r.Method, err)
	}
	if resp.StatusCode == http.StatusOK && f.AwaitLocal != nil {
		f.AwaitLocal(caller, admin.TargetOf(caller), resp.Header)
	}
	return resp.StatusCode, resp.Header, reply, true, nil
}

// IsRemovedBy reports whether the leader rejects this agent as removed. A leader closes
// the connections of a removed member before it replies, also the one on which the
// removal was asked for.
func (c *Cluster) IsRemovedBy(ctx context.Context, leader string) bool {
	for range 8 { // there may be more connections that end only now
		err := c.Call(ctx, leader, routeStatus, nil, nil)
		if err == nil || conf.CodeOf(err) == conf.CodeDenied {
			return err != nil
		}
	}
	return false
}

// ReadError maps the failure of a call that changes nothing.
func ReadError(err error) error { return forwardError(http.MethodGet, err) }

// forwardError maps the failure of a forwarded request: what never left is no_quorum;
// what may have arrived is outcome_unknown, unless it changes nothing.
func forwardError(method string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); (ok && op.Op == "dial") || conf.CodeOf(err) == conf.CodeDenied || method == http.MethodGet {
		return conf.Errorf(conf.CodeNoQuorum, "the leader does not answer: %w", err).WithHint("try again in a moment")
	}
	return conf.Errorf(conf.CodeOutcomeUnknown, "the leader took the request and its answer was lost: %w", err).
		WithHint("read the present version, or send the same change with the same Idempotency-Key again")
}
