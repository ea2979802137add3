package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Handler serves the admin REST API.
type Handler struct {
	o        Options
	routes   []Route
	router   *httprouter.Router
	failures *failures
	sessions *sessions
	origin   *http.CrossOriginProtection
}

// New makes the handler. It fails when a backend is missing.
func New(o Options) (*Handler, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	h := &Handler{
		o: o, routes: Routes(), router: httprouter.New(), failures: newFailures(o.FailRate, o.FailBurst, o.Now),
		sessions: newSessions(o.Now), origin: http.NewCrossOriginProtection(),
	}
	for i := range h.routes {
		route := &h.routes[i]
		h.router.Handle(route.Method, route.Path, func(_ http.ResponseWriter, r *http.Request, ps httprouter.Params) {
			c := r.Context().Value(callKey{}).(*call)
			c.route, c.params = route, ps
		})
	}
	return h, nil
}

// NewServer is an http.Server for h with limits on what a slow or hostile
// client can hold.
func NewServer(h *Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5*time.Second + h.o.BodyTimeout, // also of a body that nobody reads
		IdleTimeout:       2 * time.Minute,
		WriteTimeout:      h.o.Timeout + h.o.BodyTimeout + 30*time.Second,
		MaxHeaderBytes:    32 << 10,
	}
}

type callKey struct{}

// call is one request on its way through the handler.
type call struct {
	r      *http.Request
	w      http.ResponseWriter
	id     string
	route  *Route // nil for a path that the table does not have
	params httprouter.Params
	query  url.Values
	body   []byte
	who    conf.Principal
	audit  string // the service that the row of the access log names

	cookie     string // of the session by which the caller was admitted
	consistent bool   // ?consistent=1
	forwarded  bool   // the leader answered
}

// name is the route for logs and audit rows: never the path, which is anything
// that a caller likes to send.
func (c *call) name() string {
	if c.route == nil {
		return "(no such route)"
	}
	return c.route.Path
}

// reply is an answer: a body to encode, or raw bytes.
type reply struct {
	status int // 0 is 200
	header http.Header
	body   any
	raw    []byte
}

func ok(body any) (reply, error) { return reply{body: body}, nil }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.o.Now()
	c := &call{r: r, w: w, id: fmt.Sprintf("%016x", rand.Uint64())}
	secure(w.Header(), r.TLS != nil)
	w.Header().Set("X-Request-Id", c.id)
	h.find(c)
	status := h.write(c, h.answer(c))
	h.o.Logger.Debug("admin request", "request_id", c.id, "method", r.Method, "route", c.name(), "status", status,
		"user", c.who.Name, "forwarded", c.forwarded, "duration", h.o.Now().Sub(start))
}

// secure sets the headers that keep an answer out of caches and of browsers'
// hands. There are no CORS headers: other origins get nothing.
func secure(header http.Header, tls bool) {
	if tls {
		header.Set("Strict-Transport-Security", "max-age=31536000")
	}
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
}

// find fills in the route. It looks up and does not let the router answer, so
// that nothing is redirected and nothing told before the caller is known.
func (h *Handler) find(c *call) {
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handle, ps, _ := h.lookup(method, pathOf(c.r)); handle != nil {
		handle(nil, c.r.WithContext(context.WithValue(c.r.Context(), callKey{}, c)), ps)
	}
}

// pathOf is the path to look up. An escaped slash in a name would be a border of
// the path by now, and lead to another route than whoever escaped it meant: such
// a path has no route.
func pathOf(r *http.Request) string {
	if strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") {
		return ""
	}
	return r.URL.Path
}

func (h *Handler) lookup(method, path string) (httprouter.Handle, httprouter.Params, bool) {
	if !strings.HasPrefix(path, "/") {
		return nil, nil, false
	}
	return h.router.Lookup(method, path)
}

// answer makes the reply, and turns errors and panics into one.
func (h *Handler) answer(c *call) (out reply) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // the sentinel itself is what net/http documents
				panic(p)
			}
			h.o.Logger.Error("admin handler panicked", "request_id", c.id, "route", c.name(), "panic", p, "stack", string(debug.Stack()))
			out = h.failure(c, fmt.Errorf("panic: %v", p))
		}
	}()
	out, err := h.serve(c)
	if err != nil {
		return h.failure(c, err)
	}
	return out
}

func (h *Handler) serve(c *call) (reply, error) {
	if err := h.resume(c); err != nil {
		h.unauthorized(c, "session used from another origin")
		return reply{}, err
	}
	if h.o.Relay && (c.route == nil || c.route.Role != "") {
		return h.relay(c)
	}
	if err := h.admit(c); err != nil {
		return reply{}, err
	}
	if c.route == nil {
		return reply{}, h.unrouted(c)
	}
	if err := h.read(c); err != nil {
		return reply{}, err
	}
	done := h.limit(c)
	defer done()
	leave, err := h.turn(c)
	if err != nil {
		return reply{}, err
	}
	defer leave()
	if h.away(c) {
		if out, done, err := h.forward(c); done || err != nil {
			return out, err
		}
	}
	if err := h.settle(c); err != nil {
		return reply{}, err
	}
	out, err := c.route.handle(h, c)
	if err != nil {
		return reply{}, err
	}
	if c.route.audit {
		h.record(c, "read", true, "")
	}
	h.age(c, &out)
	return out, nil
}

// read takes in what the caller sent.
func (h *Handler) read(c *call) error {
	if err := h.origin.Check(c.r); err != nil {
		return conf.Errorf(conf.CodeDenied, "a page of another origin may not do this: %w", err).
			WithHint("call the API from its own origin, or from a program instead of a browser")
	}
	return c.decode(h.o.BodyTimeout)
}

// limit bounds the time of a call, from when it has been read.
func (h *Handler) limit(c *call) context.CancelFunc {
	ctx, cancel := c.r.Context(), context.CancelFunc(func() {})
	if c.route.long {
		ctx = context.WithoutCancel(ctx)
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	} else {
		ctx, cancel = context.WithTimeout(ctx, h.o.Timeout)
	}
	c.r = c.r.WithContext(ctx)
	return cancel
}

// turn waits until the caller may have its share of this agent. What only looks into
// memory and tells everybody the same has no limit: a health check must get through.
func (h *Handler) turn(c *call) (leave func(), err error) {
	if c.route.free {
		return func() {}, nil
	}
	return h.o.Share.enter(c.r.Context(), h.asker(c))
}

// unrouted answers a path or method that the table does not have.
func (h *Handler) unrouted(c *call) error {
	path := pathOf(c.r)
	var allow []string
	for _, route := range h.routes {
		m := route.Method
		if slices.Contains(allow, m) {
			continue
		}
		if handle, _, _ := h.lookup(m, path); handle != nil {
			allow = append(allow, m)
			if m == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
	}
	if allow != nil {
		slices.Sort(allow)
		list := strings.Join(allow, ", ")
		return &edgeError{
			err: conf.Errorf(conf.CodeMethod, "method %q is not allowed here", clip(c.r.Method)).
				WithHint("use one of %s", list),
			header: http.Header{"Allow": {list}},
		}
	}
	e := conf.Errorf(conf.CodeNotFound, "no such route")
	if handle, _, _ := h.lookup(http.MethodGet, strings.TrimRight(path, "/")); handle != nil {
		return e.WithHint("leave out the slash at the end")
	}
	return e.WithHint("GET /openapi.json lists all routes")
}

// write sends the reply and tells its status.
func (h *Handler) write(c *call, out reply) int {
	if out.status == 0 {
		out.status = http.StatusOK
	}
	header := c.w.Header()
	for k, v := range out.header {
		header[k] = v
	}
	if out.status == http.StatusNotModified {
		c.w.WriteHeader(out.status)
		return out.status
	}
	data := out.raw
	if data == nil {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(out.body); err != nil {
			out = h.failure(c, fmt.Errorf("encode the answer: %w", err))
			buf.Reset()
			_ = enc.Encode(out.body) // an errorBody of strings cannot fail
		}
		data = buf.Bytes()
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	header.Set("Content-Length", strconv.Itoa(len(data)))
	c.w.WriteHeader(out.status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(data) // the caller is gone: nobody is left to tell
	}
	return out.status
}

// clip keeps what a caller sends out of answers and logs at full length.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
