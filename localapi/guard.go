package localapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	documentPrefix = "/v1/config/"
	tokenHeader    = "X-Holdfast-Token"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	if err := s.guard.check(w, r); err != nil {
		if !rejectedAtDoor(s.router, w, r, err) {
			s.fail(w, r, routeOther, err)
		}
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, documentPrefix); ok && strings.IndexByte(name, '/') < 0 {
		s.serveResource(w, r, routeDocument, resource{service: name})
		return
	}
	s.router.ServeHTTP(w, r)
}

// guard rejects requests that no service beside the agent sends, and checks who may
// read secrets.
type guard struct {
	hosts   map[string]bool // accepted Host headers besides localhost and addresses
	uids    map[uint32]bool // that may read secrets on the unix socket
	token   func() string   // nil or "" accepts none
	posts   func(path string) bool
	log     *slog.Logger
	metrics *metrics

	lastWarning atomic.Int64 // unix seconds
}

func newGuard(opts Options, m *metrics) (*guard, error) {
	g := &guard{
		hosts: map[string]bool{}, uids: map[uint32]bool{0: true, uint32(os.Getuid()): true}, token: opts.Token, log: opts.Logger, metrics: m,
	}
	for _, h := range opts.AllowedHosts {
		name := hostName(h)
		if name == "" {
			return nil, conf.Errorf(conf.CodeUsage, "bad allowed host %q", h).WithHint("write a name or an address, an IPv6 address in brackets")
		}
		g.hosts[name] = true
	}
	for _, uid := range opts.AllowedUIDs {
		g.uids[uid] = true
	}
	return g, nil
}

// check rejects a request that may not be answered.
func (g *guard) check(w http.ResponseWriter, r *http.Request) *conf.Error {
	if r.ContentLength != 0 {
		// Where no handler reads the body net/http does, before it reuses the connection.
		timeout := bodyTimeout
		if r.Method == http.MethodPost {
			timeout = postTimeout
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
	}
	if proxied(r.Header) {
		g.reject(r, rejectedProxy)
		return conf.Errorf(conf.CodeDenied, "requests through a proxy are refused").
			WithHint("connect to the agent on this machine directly; other machines use the admin API")
	}
	if !g.hostAllowed(r) {
		g.reject(r, rejectedHost)
		return conf.Errorf(conf.CodeDenied, "the Host header does not name this agent").
			WithHint("use localhost or a loopback address")
	}
	if !ownPage(r) {
		g.reject(r, rejectedOrigin)
		return conf.Errorf(conf.CodeDenied, "pages of other origins are refused").
			WithHint("send the request from the server of the page to the agent")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		switch {
		case !g.posts(r.URL.Path):
			w.Header()["Allow"] = allowReads
			return conf.Errorf(conf.CodeMethod, "the local API only reads").
				WithHint("use GET or HEAD here; changes go to the admin API")
		case r.Method != http.MethodPost:
			w.Header()["Allow"] = allowPost
			return errPostOnly()
		}
		return nil
	}
	if r.ContentLength != 0 {
		g.reject(r, rejectedBody)
		w.Header()["Connection"] = closeHeader
		return conf.Errorf(conf.CodeMalformed, "a read takes no body").WithHint("send the request without one")
	}
	return nil
}

// errPostOnly is the error for another method on the path of a question with a body.
func errPostOnly() *conf.Error {
	return conf.Errorf(conf.CodeMethod, "this path takes a body").WithHint("use POST; it changes no configuration")
}

// proxied reports whether a request has headers of a proxy.
func proxied(h http.Header) bool {
	for name := range h {
		if proxyHeaders[name] {
			return true
		}
		for _, prefix := range proxyPrefixes {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		for _, part := range proxyParts {
			if strings.Contains(name, part) {
				return true
			}
		}
	}
	return false
}

// Names of headers that only proxies, load balancers and delivery networks add, as
// net/http spells them. Headers of tracing are none: a service passes them on itself.
var (
	proxyParts    = []string{"orwarded", "Client-Ip", "Clientip", "Connecting-Ip", "Real-Ip", "Remote-Ip", "User-Ip", "Proxyuser-Ip", "Connection-Ip", "Socketip"}
	proxyPrefixes = []string{"Akamai-", "Cdn-", "Cf-", "Fastly-", "Fly-", "X-Akamai-", "X-Amz-Cf-", "X-Arr-", "X-Envoy-", "X-Original-", "X-Rewrite-", "X-Varnish"}
	proxyHeaders  = map[string]bool{
		"Via": true, "X-Via": true, "Max-Forwards": true, "X-Remote-Addr": true, "X-Coming-From": true, "X-Originating-Ip": true,
	}
)

// ownPage reports whether a request does not come from a page of another origin.
// Such a page could not read the response, but must not start requests either.
func ownPage(r *http.Request) bool {
	if site := r.Header["Sec-Fetch-Site"]; site != nil && (len(site) != 1 || site[0] != "same-origin" && site[0] != "none") {
		return false
	}
	origin := r.Header["Origin"]
	if origin == nil {
		return true
	}
	_, host, ok := strings.Cut(origin[0], "://")
	return ok && len(origin) == 1 && host == r.Host
}

// hostAllowed rejects web pages that reach a loopback address by a name of their
// own (DNS rebinding): their requests have that name.
func (g *guard) hostAllowed(r *http.Request) bool {
	if peerOf(r.Context()) != nil {
		return true
	}
	if r.Host == "" && !r.ProtoAtLeast(1, 1) && (r.URL.Path == "/healthz" || r.URL.Path == "/readyz") {
		return true // a probe of an old load balancer; a browser always names the host
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return g.nameAllowed(r.Host, local)
}

// nameAllowed judges a Host header of a connection that is not on a unix socket; at is the
// address that it came to.
func (g *guard) nameAllowed(host string, at net.Addr) bool {
	name := hostName(host)
	if name == "localhost" || g.hosts[name] {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if ip = ip.Unmap(); ip.IsLoopback() {
		return true
	}
	// The local address of the connection, for listeners on other addresses.
	local, ok := at.(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == ip
}

// hostName is a Host header without port and brackets, in lower case.
func hostName(host string) string {
	if strings.HasPrefix(host, "[") {
		name, rest, ok := strings.Cut(host[1:], "]")
		if !ok || rest != "" && !isPort(rest) {
			return ""
		}
		return strings.ToLower(name)
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !isPort(host[i:]) {
			return ""
		}
		host = host[:i]
	}
	return strings.ToLower(host)
}

func isPort(s string) bool {
	if s[0] != ':' {
		return false
	}
	for _, c := range s[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// trusted reports whether the caller may see secrets. A wrong token is an error for
// every caller.
func (g *guard) trusted(r *http.Request) (bool, *conf.Error) {
	shown := r.Header[tokenHeader]
	if len(shown) == 0 {
		return g.trustedPeer(peerOf(r.Context())), nil
	}
	want := ""
	if g.token != nil {
		want = g.token()
	}
	// Hashes have one length, so the time of the comparison does not depend on it.
	a, b := sha256.Sum256([]byte(shown[0])), sha256.Sum256([]byte(want))
	if len(shown) == 1 && subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != "" {
		return true, nil
	}
	g.reject(r, rejectedToken)
	return false, conf.Errorf(conf.CodeUnauthenticated, "wrong local token").
		WithHint("send the content of the agent's local-token file in %s, or leave the header out for plain values", tokenHeader)
}

// trustedPeer reports whether a caller without a token may see secrets.
func (g *guard) trustedPeer(p *peer) bool { return p != nil && p.known && g.uids[p.uid] }

// reject counts a rejected request and logs it, once a second at most: a caller
// must not be able to fill the log.
func (g *guard) reject(r *http.Request, why rejectReason) {
	g.metrics.rejected[why].Add(1)
	now := time.Now().Unix()
	if last := g.lastWarning.Load(); last < now && g.lastWarning.CompareAndSwap(last, now) {
		g.log.Warn("local API rejected a request", "reason", why.String(), "remote", r.RemoteAddr, "path", clip(r.URL.Path))
	}
}

// recovered turns a panic into a 500. Handlers write once, at their end, so nothing
// was sent yet; streams handle their own panics.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // the value itself is the signal
		panic(v)
	}
	s.metrics.panics.Add(1)
	alarm.LocalPanic.Report(s.log, "path", clip(r.URL.Path), "panic", v, "stack", string(debug.Stack()))
	clear(w.Header())
	s.fail(w, r, routeOther, conf.Errorf(conf.CodeInternal, "internal error").
		WithHint("the agent's log has the details"))
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
