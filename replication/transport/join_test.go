package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// office lets agents in, as the layer above does, but for Raft.
type office struct {
	c *cluster

	mu     sync.Mutex
	tokens map[string]joinToken
	asked  []transport.JoinRequest
	fail   error                      // instead of an answer
	change func(*transport.JoinGrant) // what a bad server would do
}

func newOffice(c *cluster) *office {
	return &office{c: c, tokens: map[string]joinToken{}}
}

func (o *office) token(role pki.Role, ttl time.Duration, uses int) string {
	tok := transport.NewToken(o.c.ca.Hash())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens[tok.ID] = storedToken(tok, role, "", ttl, uses, "alice", time.Now())
	return tok.String()
}

func (o *office) stored(token string) joinToken {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tokens[must(transport.ParseToken(token))(o.c.t).ID]
}

func (o *office) edit(token string, change func(*joinToken)) {
	s := o.stored(token)
	change(&s)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens[s.ID] = s
}

func (o *office) Join(_ context.Context, r transport.JoinRequest) (transport.JoinGrant, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, r)
	if o.fail != nil {
		return transport.JoinGrant{}, o.fail
	}
	var stored *joinToken
	if s, ok := o.tokens[r.TokenID]; ok {
		stored = &s
	}
	if err := stored.check(r.Secret, r.KeyHash(), time.Now()); err != nil {
		return transport.JoinGrant{}, err
	}
	cert, err := o.c.ca.Issue(r.CSR, r.NodeID, stored.Role, ttl, time.Now())
	if err != nil {
		return transport.JoinGrant{}, err
	}
	o.tokens[r.TokenID] = stored.withClaim(claim{KeyHash: r.KeyHash(), NodeID: r.NodeID})
	g := transport.JoinGrant{
		Certificate: cert.Raw, CAs: [][]byte{o.c.ca.Certificate().Raw}, ClusterID: o.c.id, Epoch: "e1",
		Members: []transport.MemberAddr{{NodeID: "a", Role: pki.RoleServer, Addr: "10.0.0.1:2771"}}, Keys: []byte("sealed"),
	}
	if o.change != nil {
		o.change(&g)
	}
	return g, nil
}

func withJoiner(o *office) func(*transport.Options) {
	return func(opts *transport.Options) { opts.Joiner = o }
}

func joiner(t testing.TB, addr, token string) transport.JoinOptions {
	return transport.JoinOptions{
		Addr: addr, Token: token, Key: must(pki.NewKey())(t), NodeID: "new", Version: "1.2.3", Advertise: "10.0.0.9:2771",
	}
}

func TestJoin(t *testing.T) {
	c := newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), withJoiner(o))
	echo(a.layer)
	for _, role := range []pki.Role{pki.RoleServer, pki.RoleSidecar} {
		token := o.token(role, time.Hour, 1)
		opts := joiner(t, a.Addr(), token)
		opts.Epoch = "e0"
		g := must(transport.Join(t.Context(), opts))(t)
		if g.Identity.NodeID != "new" || g.Identity.Role != role || g.ClusterID != "blue" || g.Epoch != "e1" ||
			string(g.Keys) != "sealed" || len(g.Members) != 1 || g.Members[0].Addr != "10.0.0.1:2771" {
			t.Errorf("%+v", g)
		}
		r := o.asked[len(o.asked)-1]
		if r.NodeID != "new" || r.Version != "1.2.3" || r.Advertise != "10.0.0.9:2771" || r.Epoch != "e0" || len(r.KeyHash()) != 64 {
			t.Errorf("%+v", r)
		}
		// The answer was lost, and the joiner tries again: that is one use.
		must(transport.Join(t.Context(), opts))(t)
		if n := len(o.stored(token).Claims); n != 1 {
			t.Errorf("%d uses are counted", n)
		}
		// Another agent is another use.
		_, err := transport.Join(t.Context(), joiner(t, a.Addr(), token))
		wantCode(t, err, conf.CodeDenied)
		// The identity works at once.
		p := start(t, g.Identity, nil)
		conn, err := p.layer.Dial(a.Addr(), patience)
		if role == pki.RoleServer {
			said(t, must(conn, err)(t), "append")
		}
	}
	await(t, "no connection of a joiner stays", func() bool { return a.Stats().Open == 1 })
}

// The joiner sees one refusal, whatever the reason; the server knows which.
func TestRefusedTokensLookAlike(t *testing.T) {
	c := newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), func(opts *transport.Options) {
		opts.Joiner = o
		opts.Limits.FailedJoins = 100
	})
	tok := func(s string) transport.Token { return must(transport.ParseToken(s))(t) }
	forged := func(change func(*transport.Token)) string {
		x := tok(o.token(pki.RoleServer, time.Hour, 1))
		change(&x)
		return x.String()
	}
	used := o.token(pki.RoleServer, time.Hour, 1)
	must(transport.Join(t.Context(), joiner(t, a.Addr(), used)))(t)
	revoked := o.token(pki.RoleServer, time.Hour, 1)
	o.edit(revoked, func(s *joinToken) { s.Revoked = true })
	expired := o.token(pki.RoleServer, time.Hour, 1)
	o.edit(expired, func(s *joinToken) { s.Expires = conf.FormatTime(time.Now().Add(-time.Second)) })
	texts := map[string]bool{}
	for name, tc := range map[string]struct {
		token  string
		reason transport.TokenReason
	}{
		"unknown":       {transport.NewToken(c.ca.Hash()).String(), transport.TokenUnknown},
		"tampered":      {forged(func(x *transport.Token) { x.Secret = transport.NewToken("").Secret }), transport.TokenForged},
		"used":          {used, transport.TokenUsed},
		"revoked":       {revoked, transport.TokenRevoked},
		"expired":       {expired, transport.TokenExpired},
		"wrong cluster": {transport.NewToken(newCluster(t, "blue").ca.Hash()).String(), transport.TokenForeign},
		"tampered hash": {forged(func(x *transport.Token) { x.CAHash = strings.Repeat("0", 64) }), transport.TokenForeign},
	} {
		_, err := transport.Join(t.Context(), joiner(t, a.Addr(), tc.token))
		wantCode(t, err, conf.CodeDenied)
		texts[fmt.Sprint(conf.CodeOf(err), err, conf.HintOf(err))] = true
		r := a.why()
		if r.Token != tc.reason || r.Protocol != transport.ProtoJoin || !strings.HasPrefix(r.Source, "127.0.0.1:") {
			t.Errorf("%s: %+v", name, r)
		}
		if tc.reason != transport.TokenForeign && (r.Reason != transport.ReasonJoinToken || r.TokenID != tok(tc.token).ID || r.NodeID != "new") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if len(texts) != 1 {
		t.Errorf("the refusals differ: %v", texts)
	}
	for text := range texts {
		if !strings.Contains(text, "the join token was refused") || !strings.Contains(text, "holdfast token create") {
			t.Errorf("%s", text)
		}
	}
}

// Before the server has shown the CA of the token it gets nothing: no token, no
// CSR, not one byte beyond the handshake.
func TestPinning(t *testing.T) {
	c, evil := newCluster(t, "blue"), newCluster(t, "blue")
	token := transport.NewToken(c.ca.Hash()).String()
	server, fake := c.server("a"), evil.server("a")
	side := c.sidecar("s")
	leafByEvil := evil.signed(func(*x509.Certificate) {})
	for name, tc := range map[string]struct {
		cert *tls.Certificate
		text string
	}{
		"another CA": {&tls.Certificate{Certificate: [][]byte{fake.Cert.Raw, evil.ca.Certificate().Raw}, PrivateKey: fake.Key}, "was refused"},
		"the right CA beside, which signed nothing": {
			&tls.Certificate{Certificate: [][]byte{leafByEvil.Certificate[0], c.ca.Certificate().Raw}, PrivateKey: leafByEvil.PrivateKey}, "not of this cluster",
		},
		"no CA in the chain":     {&tls.Certificate{Certificate: [][]byte{server.Cert.Raw}, PrivateKey: server.Key}, "was refused"},
		"the CA alone":           {&tls.Certificate{Certificate: [][]byte{c.ca.Certificate().Raw}, PrivateKey: c.caKey()}, "was refused"},
		"the CA twice":           {&tls.Certificate{Certificate: [][]byte{c.ca.Certificate().Raw, c.ca.Certificate().Raw}, PrivateKey: c.caKey()}, ""},
		"a stolen certificate":   {&tls.Certificate{Certificate: [][]byte{side.Cert.Raw, c.ca.Certificate().Raw}, PrivateKey: side.Key}, "is a sidecar"},
		"an expired certificate": {expiredServer(c), "not good at this time"},
		"the joiner itself": {
			func() *tls.Certificate {
				id := c.server("new")
				return &tls.Certificate{Certificate: [][]byte{id.Cert.Raw, c.ca.Certificate().Raw}, PrivateKey: id.Key}
			}(), "cannot join itself",
		},
	} {
		addr, got := listener(t, tc.cert)
		_, err := transport.Join(t.Context(), joiner(t, addr, token))
		if err == nil || !strings.Contains(err.Error()+conf.HintOf(err), tc.text) {
			t.Errorf("%s: %v", name, err)
		}
		if data := <-got; len(data) > 0 {
			t.Errorf("%s: the server got %d bytes", name, len(data))
		}
	}
	// The real one, by the same way: the test can see what is sent.
	addr, got := listener(t, &tls.Certificate{Certificate: [][]byte{server.Cert.Raw, c.ca.Certificate().Raw}, PrivateKey: server.Key})
	_, err := transport.Join(t.Context(), joiner(t, addr, token))
	wantCode(t, err, conf.CodeOutcomeUnknown)
	wantHint(t, err)
	if data := <-got; !strings.Contains(string(data), must(transport.ParseToken(token))(t).Secret) {
		t.Error("the joiner did not send its token to the right server")
	}
}

func expiredServer(c *cluster) *tls.Certificate {
	id := c.identityAt("a", pki.RoleServer, time.Minute, time.Now().Add(-30*time.Minute))
	return &tls.Certificate{Certificate: [][]byte{id.Cert.Raw, c.ca.Certificate().Raw}, PrivateKey: id.Key}
}

// listener is a server with any certificate. It welcomes every client, and tells
// what the client sent within the TLS connection.
func listener(t *testing.T, cert *tls.Certificate) (addr string, got <-chan []byte) {
	t.Helper()
	l := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{transport.ProtoJoin}}))(t)
	t.Cleanup(func() { l.Close() })
	ch := make(chan []byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write([]byte{1})
		buf := make([]byte, 1<<16)
		n, _ := conn.Read(buf)
		ch <- buf[:n]
	}()
	return l.Addr().String(), ch
}

// What a server answers that has the right certificate and is up to no good.
func TestGrantsAreVerified(t *testing.T) {
	c, evil := newCluster(t, "blue"), newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), withJoiner(o))
	other := c.server("new")
	for name, change := range map[string]func(*transport.JoinGrant){
		"a certificate for another key": func(g *transport.JoinGrant) { g.Certificate = other.Cert.Raw },
		"no certificate":                func(g *transport.JoinGrant) { g.Certificate = nil },
		"another CA":                    func(g *transport.JoinGrant) { g.CAs = [][]byte{evil.ca.Certificate().Raw} },
		"no CA":                         func(g *transport.JoinGrant) { g.CAs = nil },
		"another cluster":               func(g *transport.JoinGrant) { g.ClusterID = "green" },
	} {
		o.change = change
		if g, err := transport.Join(t.Context(), joiner(t, a.Addr(), o.token(pki.RoleServer, time.Hour, 1))); err == nil || g != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A certificate for somebody else, for the joiner's key, from the right CA.
	opts := joiner(t, a.Addr(), o.token(pki.RoleServer, time.Hour, 1))
	o.change = func(g *transport.JoinGrant) {
		csr := must(pki.NewCSR(opts.Key))(t)
		g.Certificate = must(c.ca.Issue(csr, "else", pki.RoleServer, ttl, time.Now()))(t).Raw
	}
	_, err := transport.Join(t.Context(), opts)
	wantCode(t, err, conf.CodeDenied)
	// A new CA that the token does not name issues it, and comes along: the pinned
	// one must still be among those that are trusted.
	o.change = func(g *transport.JoinGrant) {
		csr := must(pki.NewCSR(opts.Key))(t)
		g.Certificate = must(evil.ca.Issue(csr, "new", pki.RoleServer, ttl, time.Now()))(t).Raw
		g.CAs = [][]byte{evil.ca.Certificate().Raw}
	}
	_, err = transport.Join(t.Context(), opts)
	wantCode(t, err, conf.CodeDenied)
	o.change = nil
	opts.Now = func() time.Time { return time.Now().AddDate(10, 0, 0) }
	_, err = transport.Join(t.Context(), opts)
	if !strings.Contains(conf.HintOf(err), "clock") {
		t.Errorf("a clock ten years off: %v, %s", err, conf.HintOf(err))
	}
}

func TestJoinErrorsReachTheJoiner(t *testing.T) {
	c := newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), func(opts *transport.Options) {
		opts.Joiner = o
		opts.Limits.FailedJoins = 3
	})
	token := o.token(pki.RoleServer, time.Hour, 1)
	for _, want := range []*conf.Error{
		conf.Errorf(conf.CodeNoQuorum, "no leader is known").WithHint("wait"),
		conf.Errorf(conf.CodeOutcomeUnknown, "it may have been counted").WithHint("try again"),
		conf.Errorf(conf.CodeNoQuorum, "no leader is known: %w", io.EOF).WithHint("wait"),
		conf.Errorf(conf.CodeStorageFull, "the disk is full").WithHint("make room"),
	} {
		o.fail = want
		for range 4 { // what is the cluster's fault does not count against the joiner
			_, err := transport.Join(t.Context(), joiner(t, a.Addr(), token))
			if conf.CodeOf(err) != want.Code || err.Error() != want.Message || conf.HintOf(err) != want.Hint {
				t.Errorf("%v came as %v", want, err)
			}
		}
	}
	o.fail = conf.Errorf(conf.CodeInternal, "open /secret/path: %w", io.ErrUnexpectedEOF)
	_, err := transport.Join(t.Context(), joiner(t, a.Addr(), token))
	if conf.CodeOf(err) != conf.CodeInternal || strings.Contains(err.Error(), "/secret") {
		t.Errorf("%v", err)
	}
}

func TestJoinWhereNobodyJoins(t *testing.T) {
	c := newCluster(t, "blue")
	a := start(t, c.server("a"), nil)
	_, err := transport.Join(t.Context(), joiner(t, a.Addr(), transport.NewToken(c.ca.Hash()).String()))
	wantCode(t, err, conf.CodeUnsupported)
	wantHint(t, err)
	if r := a.why(); r.Reason != transport.ReasonNotServing || r.Protocol != transport.ProtoJoin {
		t.Errorf("%+v", r)
	}
	for name, change := range map[string]func(*transport.JoinOptions){
		"a bad token":   func(o *transport.JoinOptions) { o.Token = "HF1x" },
		"a bad id":      func(o *transport.JoinOptions) { o.NodeID = "a b" },
		"no address":    func(o *transport.JoinOptions) { o.Advertise = "" },
		"only a port":   func(o *transport.JoinOptions) { o.Advertise = ":2771" },
		"a bad version": func(o *transport.JoinOptions) { o.Version = "1\n2" },
		"a dead server": func(o *transport.JoinOptions) { o.Addr = "127.0.0.1:1" },
	} {
		opts := joiner(t, a.Addr(), transport.NewToken(c.ca.Hash()).String())
		change(&opts)
		if _, err := transport.Join(t.Context(), opts); err == nil || conf.HintOf(err) == "" && name != "a bad version" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// stranger speaks holdfast-join/1 by hand.
func stranger(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	conn := must(tls.Dial("tcp", addr, foreign(nil, transport.ProtoJoin)))(t)
	t.Cleanup(func() { conn.Close() })
	var welcome [1]byte
	if _, err := io.ReadFull(conn, welcome[:]); err != nil || welcome[0] != 1 {
		t.Fatalf("verdict %v, %v", welcome, err)
	}
	return conn
}

func post(t *testing.T, addr, method, path, kind, body string) (int, string, http.Header) {
	t.Helper()
	conn := stranger(t, addr)
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := http.Client{Transport: &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true,
	}}
	defer c.CloseIdleConnections()
	r := must(http.NewRequestWithContext(t.Context(), method, "https://x"+path, strings.NewReader(body)))(t)
	r.Header.Set("Content-Type", kind)
	resp := must(c.Do(r))(t)
	defer resp.Body.Close()
	return resp.StatusCode, string(must(io.ReadAll(resp.Body))(t)), resp.Header
}

func TestBadJoinRequests(t *testing.T) {
	c := newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), func(opts *transport.Options) {
		opts.Joiner = o
		opts.Limits.FailedJoins = 1000
		opts.RPC = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("a stranger calls %s", r.URL) })
	})
	good := func(change func(*transport.JoinRequest)) string {
		tok := must(transport.ParseToken(o.token(pki.RoleServer, time.Hour, 1)))(t)
		csr := must(pki.NewCSR(must(pki.NewKey())(t)))(t)
		r := transport.JoinRequest{TokenID: tok.ID, Secret: tok.Secret, CSR: csr, NodeID: "new", Version: "1", Advertise: "h:1"}
		change(&r)
		return string(must(json.Marshal(r))(t))
	}
	same := func(*transport.JoinRequest) {}
	const js = "application/json"
	for name, tc := range map[string]struct {
		method, path, kind, body string
		status                   int
	}{
		"good":              {"POST", "/join", js, good(same), 200},
		"another path":      {"POST", "/", js, good(same), 404},
		"a call of members": {"POST", "/renew", js, good(same), 404},
		"a GET":             {"GET", "/join", js, "", 405},
		"a form":            {"POST", "/join", "application/x-www-form-urlencoded", good(same), 400},
		"no JSON":           {"POST", "/join", js, "x", 400},
		"nothing":           {"POST", "/join", js, "", 400},
		"an array":          {"POST", "/join", js, "[]", 400},
		"more members":      {"POST", "/join", js, strings.Replace(good(same), "{", `{"role":"server",`, 1), 400},
		"twice a member":    {"POST", "/join", js, strings.Replace(good(same), "{", `{"node_id":"x",`, 1), 400},
		"a huge body":       {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.Version = strings.Repeat("x", 1<<20) }), 413},
		"a long version":    {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.Version = strings.Repeat("x", 1000) }), 422},
		"a bad CSR":         {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.CSR[len(r.CSR)-1] ^= 1 }), 422},
		"no CSR":            {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.CSR = nil }), 400},
		"a bad node id":     {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.NodeID = "../x" }), 422},
		"the id of this":    {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.NodeID = "a" }), 409},
		"no token":          {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.TokenID = "" }), 403},
		"a strange secret":  {"POST", "/join", js, good(func(r *transport.JoinRequest) { r.Secret = strings.Repeat("é", 50) }), 403},
	} {
		before := len(o.asked)
		status, text, _ := post(t, a.Addr(), tc.method, tc.path, tc.kind, tc.body)
		if status != tc.status || status != 200 && !strings.Contains(text, `"success":false`) {
			t.Errorf("%s: %d %s", name, status, text)
		}
		if asked := len(o.asked) - before; asked > 0 != (status == 200) {
			t.Errorf("%s: the joiner was called %d times", name, asked)
		}
	}
}

func TestFailedJoinsAreLimited(t *testing.T) {
	c := newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), func(opts *transport.Options) {
		opts.Joiner = o
		opts.Limits.FailedJoins, opts.Limits.FailedJoinEvery = 3, time.Hour
	})
	for range 5 { // those that succeed do not count
		must(transport.Join(t.Context(), joiner(t, a.Addr(), o.token(pki.RoleServer, time.Hour, 1))))(t)
	}
	bad := transport.NewToken(c.ca.Hash()).String()
	for range 3 {
		_, err := transport.Join(t.Context(), joiner(t, a.Addr(), bad))
		wantCode(t, err, conf.CodeDenied)
	}
	before := len(o.asked)
	for _, token := range []string{bad, o.token(pki.RoleServer, time.Hour, 1)} {
		_, err := transport.Join(t.Context(), joiner(t, a.Addr(), token))
		wantCode(t, err, conf.CodeRateLimited)
		wantHint(t, err)
	}
	if len(o.asked) != before {
		t.Error("a token was looked at")
	}
	if status, _, h := post(t, a.Addr(), "POST", "/join", "application/json", "{}"); status != 429 || h.Get("Retry-After") == "" {
		t.Errorf("%d %v", status, h)
	}
	if n := a.Stats().Refused[transport.ReasonJoinRate]; n != 3 {
		t.Errorf("%d are counted", n)
	}
}

// Strangers who hold join connections open do not keep others from joining for
// long, and never take what members use.
func TestIdleJoiners(t *testing.T) {
	c := newCluster(t, "blue")
	o := newOffice(c)
	a := start(t, c.server("a"), func(opts *transport.Options) {
		opts.Joiner = o
		opts.Limits.JoinsPerSource = 2
	})
	echo(a.layer)
	one, two := stranger(t, a.Addr()), stranger(t, a.Addr())
	_, err := transport.Join(t.Context(), joiner(t, a.Addr(), o.token(pki.RoleServer, time.Hour, 1)))
	wantCode(t, err, conf.CodeRateLimited)
	if r := a.why(); r.Reason != transport.ReasonSource {
		t.Errorf("%+v", r)
	}
	said(t, must(start(t, c.server("b"), nil).layer.Dial(a.Addr(), patience))(t), "x")
	_, _ = io.WriteString(two, "POST /join HTTP/1.1\r\n") // and never ends
	closed(t, one)
	closed(t, two)
	await(t, "the places are free", func() bool { return a.Stats().Open == 1 })
	must(transport.Join(t.Context(), joiner(t, a.Addr(), o.token(pki.RoleServer, time.Hour, 1))))(t)
}

// A server that never answers does not hold a joiner up endlessly.
func TestJoinEnds(t *testing.T) {
	c := newCluster(t, "blue")
	o := &stuck{entered: make(chan struct{})}
	a := start(t, c.server("a"), func(opts *transport.Options) { opts.Joiner = o })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := transport.Join(ctx, joiner(t, a.Addr(), transport.NewToken(c.ca.Hash()).String()))
		ended <- err
	}()
	<-o.entered
	cancel()
	err := <-ended
	wantCode(t, err, conf.CodeOutcomeUnknown)
	await(t, "the server has noticed", func() bool { return a.Stats().Open == 0 })
}

type stuck struct{ entered chan struct{} }

func (s *stuck) Join(ctx context.Context, _ transport.JoinRequest) (transport.JoinGrant, error) {
	close(s.entered)
	<-ctx.Done()
	return transport.JoinGrant{}, ctx.Err()
}
