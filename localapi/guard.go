package localapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	documentPrefix = "/v1/config/"
	tokenHeader    = "X-Holdfast-Token"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	if err := s.guard(w, r); err != nil {
		s.fail(w, r, routeOther, err)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, documentPrefix); ok && strings.IndexByte(name, '/') < 0 {
		s.serveResource(w, r, routeDocument, target{service: name})
		return
	}
	s.router.ServeHTTP(w, r)
}

// guard refuses what no service beside the agent sends.
func (s *Server) guard(w http.ResponseWriter, r *http.Request) *conf.Error {
	if r.ContentLength != 0 {
		// Nobody reads it, but the server waits for it before it lets the connection go.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	if proxied(r.Header) {
		s.refuse(r, refusedProxy)
		return conf.Errorf(conf.CodeDenied, "requests through a proxy are refused").
			WithHint("ask the agent on this machine directly; other machines use the admin API")
	}
	if !s.hostAllowed(r) {
		s.refuse(r, refusedHost)
		return conf.Errorf(conf.CodeDenied, "the Host header does not name this agent").
			WithHint("ask by localhost or a loopback address")
	}
	if !ownPage(r) {
		s.refuse(r, refusedOrigin)
		return conf.Errorf(conf.CodeDenied, "pages of other origins are refused").
			WithHint("let the page ask its own server, and that one ask the agent")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header()["Allow"] = allowReads
		return conf.Errorf(conf.CodeMethod, "the local API only reads").
			WithHint("use GET or HEAD here; changes go to the admin API")
	}
	if r.ContentLength != 0 {
		s.refuse(r, refusedBody)
		w.Header()["Connection"] = closeHeader
		return conf.Errorf(conf.CodeMalformed, "a read takes no body").WithHint("send the request without one")
	}
	return nil
}

// proxied says whether a request has the marks of a proxy.
func proxied(h http.Header) bool {
	for name := range h {
		switch {
		case len(name) > 12 && name[:12] == "X-Forwarded-", name == "Forwarded", name == "Via", name == "X-Real-Ip":
			return true
		}
	}
	return false
}

// ownPage says whether no browser tells that a page of another origin asks. Such
// a page cannot read an answer, but it must not even begin a request.
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

// hostAllowed holds off web pages that reach a loopback address through a name of
// their own (DNS rebinding): their requests carry that name.
func (s *Server) hostAllowed(r *http.Request) bool {
	if peerOf(r.Context()) != nil {
		return true
	}
	name := hostName(r.Host)
	if name == "localhost" || s.hosts[name] {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if ip = ip.Unmap(); ip.IsLoopback() {
		return true
	}
	// The address that the connection came in on: a listener on a chosen address,
	// or on all of them.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == ip
}

// hostName is a Host header without its port and brackets, in lower case.
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

// trusted says whether the caller may see secrets. A token that is shown must be
// right, whoever shows it.
func (s *Server) trusted(r *http.Request) (bool, *conf.Error) {
	shown := r.Header[tokenHeader]
	if len(shown) == 0 {
		p := peerOf(r.Context())
		return p != nil && p.known && s.uids[p.uid], nil
	}
	want := ""
	if s.opts.Token != nil {
		want = s.opts.Token()
	}
	// Hashing first keeps the length of the token from showing in the time too.
	a, b := sha256.Sum256([]byte(shown[0])), sha256.Sum256([]byte(want))
	if len(shown) == 1 && subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != "" {
		return true, nil
	}
	s.refuse(r, refusedToken)
	return false, conf.Errorf(conf.CodeUnauthenticated, "wrong local token").
		WithHint("send the content of the agent's local-token file in %s, or leave the header out for plain values", tokenHeader)
}

// refuse counts a refusal and says so in the log, once a second at most: whoever
// is refused must not be able to fill the log.
func (s *Server) refuse(r *http.Request, why refusal) {
	s.metrics.refused[why].Add(1)
	now := time.Now().Unix()
	if last := s.lastWarning.Load(); last < now && s.lastWarning.CompareAndSwap(last, now) {
		s.log.Warn("local API refused a request", "reason", why.String(), "remote", r.RemoteAddr, "path", clip(r.URL.Path))
	}
}

// recovered turns a panic into a 500. Handlers write once and last, so nothing
// was sent yet; streams see to their own panics.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // the value itself is the signal
		panic(v)
	}
	s.metrics.panics.Add(1)
	s.log.Error("local API handler panicked", "path", clip(r.URL.Path), "panic", v, "stack", string(debug.Stack()))
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
