package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// maxAnswer bounds what another member may answer.
const maxAnswer = 64 << 20

// forwardTimeout is how long a leader may take to answer.
const forwardTimeout = 10 * time.Second

// forwarded are the headers of a request that reach the leader: the caller's own
// credential, and what the request means. Nothing but the certificate says who
// forwarded it.
var forwarded = []string{"X-Api-Token", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Config-Reason", "User-Agent"}

// callerHeader says for the access log from where a request came that is passed on.
// It is looked at only in what members send.
const callerHeader = "X-Holdfast-Caller"

// forwardedBy is who made a request that another member passed on: the address is
// that member's word.
func forwardedBy(r *http.Request) string {
	from := "an unknown address"
	if addr, err := netip.ParseAddr(r.Header.Get(callerHeader)); err == nil {
		from = addr.Unmap().WithZone("").String()
	}
	if p, ok := transport.PeerFrom(r.Context()); ok {
		from += " through " + p.NodeID
	}
	return from
}

// Forward is admin.Forwarder: it sends a request to the leader, once. The leader
// authorises it again, and answers as if it had been asked itself; its handler
// for members has no Forwarder, so there is no second hop.
func (c *cluster) Forward(ctx context.Context, r *http.Request, body []byte) (status int, header http.Header, reply []byte, done bool, err error) {
	if c.leading() {
		return 0, nil, nil, false, nil
	}
	leader, err := c.awaitLeader(ctx)
	if err != nil {
		return 0, nil, nil, false, err
	}
	if leader == c.self() {
		return 0, nil, nil, false, nil
	}
	ctx, cancel := c.whileLeads(ctx, leader)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "https://leader"+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, false, err
	}
	// net/http sends a request with an Idempotency-Key again by itself when its
	// connection breaks, and then tells only of the second attempt. A body that
	// cannot be had twice keeps it from that.
	req.Body, req.GetBody = io.NopCloser(bytes.NewReader(body)), nil
	for _, h := range forwarded {
		if v := r.Header.Values(h); len(v) > 0 {
			req.Header[h] = v
		}
	}
	req.Header.Set(callerHeader, admin.CallerAddr(r))
	resp, err := c.port.Client(leader).Do(req)
	if err != nil {
		if r.URL.Path == "/api/config/cluster/members/"+c.self()+"/remove" && c.out(ctx, leader) {
			return http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"success":true,"error":null}` + "\n"), true, nil
		}
		return 0, nil, nil, false, lost(r.Method, err)
	}
	defer resp.Body.Close()
	reply, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, nil, false, lost(r.Method, err)
	}
	if resp.StatusCode == http.StatusOK {
		c.awaitOwn(ctx, r.URL.Path, resp.Header.Get("X-Config-Version"))
	}
	return resp.StatusCode, resp.Header, reply, true, nil
}

// out says whether the leader takes this agent for removed. It closes the connections
// of who is removed, the one over which that was asked for too, before the answer.
func (c *cluster) out(ctx context.Context, leader string) bool {
	for range 8 { // there may be more connections that end only now
		err := c.call(ctx, leader, "/status", nil, nil)
		if err == nil || conf.CodeOf(err) == conf.CodeDenied {
			return err != nil
		}
	}
	return false
}

// awaitOwn holds the answer to a change back until this agent has it too, for a
// moment at most: whoever writes here and then reads here expects what he wrote.
func (c *cluster) awaitOwn(ctx context.Context, path, version string) {
	if strings.HasPrefix(path, "/api/config/tokens") {
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_ = c.Consistent(ctx) // a token that was made or revoked here is known or refused here
		return
	}
	v, err := strconv.ParseUint(version, 10, 64)
	service, ok := strings.CutPrefix(path, "/api/config/services/")
	if err != nil || !ok {
		return
	}
	service, _, _ = strings.Cut(service, "/")
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for {
		e, ok := c.s.view.Get(service)
		if !ok || e.Record.Version >= v {
			return
		}
		select {
		case <-e.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// awaitLeader names the leader, this agent included. An election takes less than
// a second; whoever has no leader by then hears so.
func (c *cluster) awaitLeader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 800*time.Millisecond)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.leading() {
			return c.self(), nil
		}
		if leader, ok := c.leader(); ok {
			return leader, nil
		}
		if c.s.cur.Load() == nil {
			return "", c.s.down()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", conf.Errorf(conf.CodeNoQuorum, "no leader is known to this agent").
				WithHint("reads go on; try again in a moment, or see: holdfast cluster status")
		}
	}
}

// whileLeads is ctx until it is plain that leader will not answer any more: this
// agent follows another one, or none for a second. A leader that is cut off or
// stopped breaks no connection, and a caller must not wait for it.
func (c *cluster) whileLeads(ctx context.Context, leader string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for none := 0; none < 10; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, _ := c.leader()
			switch now {
			case leader:
				none = 0
			case "":
				none++
			default:
				none = 10
			}
		}
		cancel()
	}()
	return ctx, cancel
}

// lost maps the failure of a forwarded request: what never left is no_quorum,
// what may have arrived is unknown, unless it changes nothing.
func lost(method string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); (ok && op.Op == "dial") || conf.CodeOf(err) == conf.CodeDenied || method == http.MethodGet {
		return conf.Errorf(conf.CodeNoQuorum, "the leader does not answer: %w", err).WithHint("try again in a moment")
	}
	return conf.Errorf(conf.CodeOutcomeUnknown, "the leader took the request and its answer was lost: %w", err).
		WithHint("read the present version, or send the same change with the same Idempotency-Key again")
}

// call asks another member something over the cluster port.
func (c *cluster) call(ctx context.Context, node, path string, in, out any) error {
	var body io.Reader
	method := http.MethodGet
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, method = bytes.NewReader(data), http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://member"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.port.Client(node).Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL, which says nothing to a person
		}
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, conf.MaxDocument))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Code    conf.Code `json:"code"`
			Message string    `json:"error"`
		}
		_ = json.Unmarshal(data, &e)
		if e.Code == "" {
			e.Code, e.Message = conf.CodeInternal, resp.Status
		}
		return conf.Errorf(e.Code, "%s", e.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// confirm is Consistent for a read that another member sent here: this agent has
// to lead, whatever the other one believes.
func (c *cluster) confirm(ctx context.Context) error {
	ss, err := c.own()
	if err != nil {
		return err
	}
	_, err = ss.member.ReadIndex(ctx)
	return err
}

// Consistent makes the next read of this agent's memory linearizable: it waits
// until it has applied all that was acknowledged before the call.
func (c *cluster) Consistent(ctx context.Context) error {
	ss := c.s.cur.Load()
	if ss == nil {
		return c.s.down()
	}
	if c.leading() {
		_, err := ss.member.ReadIndex(ctx)
		return err
	}
	leader, err := c.awaitLeader(ctx)
	if err != nil {
		return err
	}
	var at readIndex
	if err := c.call(ctx, leader, "/readindex", nil, &at); err != nil {
		return lost(http.MethodGet, err)
	}
	for {
		snap := c.s.view.Load()
		if snap.Index >= at.Index {
			return nil
		}
		if applied, _ := ss.store.Applied(); applied >= at.Index {
			return nil // what came after changed no service
		}
		select {
		case <-snap.Changed():
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return conf.Errorf(conf.CodeStale, "this agent did not catch up with the leader in time: %w", ctx.Err())
		}
	}
}
