package admin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// Handler serves the admin REST API.
type Handler struct {
	o         Options
	router    *router
	admission *admission
	origin    *http.CrossOriginProtection
}

// New makes the handler. It fails when a backend is missing.
func New(o Options) (*Handler, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	a := newAdmission(&o)
	return &Handler{o: o, router: newRouter(routesOf(rooms(&o, a))), admission: a, origin: http.NewCrossOriginProtection()}, nil
}

// NewServer is an http.Server for h with limits on what a slow or hostile
// client can hold.
func NewServer(h *Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5*time.Second + h.o.BodyTimeout, // also of a body that no handler reads
		IdleTimeout:       2 * time.Minute,
		WriteTimeout:      h.o.Timeout + h.o.BodyTimeout + 30*time.Second,
		MaxHeaderBytes:    32 << 10,
		ConnState:         connlimit.Track,
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.o.Now()
	asked := r // its context lasts as long as the connection
	c := &call{r: r, w: w, id: fmt.Sprintf("%016x", rand.Uint64())}
	secure(w.Header(), r)
	w.Header().Set("X-Request-Id", c.id)
	c.route, c.params = h.router.find(r)
	out := h.respond(c)
	status := statusGone
	switch {
	case out.gone:
	case out.stream != nil:
		status = http.StatusOK
		out.stream(w, asked)
	default:
		status = h.write(c, out)
	}
	h.o.Logger.Debug("admin request", "request_id", c.id, "method", r.Method, "route", c.name(), "status", status,
		"user", c.who.Name, "forwarded", c.forwarded, "took", h.o.Now().Sub(start))
	if out.gone {
		httperror.Abandon()
	}
}

// statusGone is what the log shows of a request whose client did not wait for the
// response.
const statusGone = 499

// secure sets the headers that keep a response out of caches and frames. There
// are no CORS headers: other origins get nothing.
func secure(header http.Header, r *http.Request) {
	if host := (&url.URL{Host: r.Host}).Hostname(); r.TLS != nil && host != "localhost" { // it counts for all ports of a host
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

// respond makes the reply, and turns errors and panics into one.
func (h *Handler) respond(c *call) (out reply) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // the sentinel itself is what net/http documents
				panic(p)
			}
			alarm.AdminPanic.Report(h.o.Logger, "request_id", c.id, "route", c.name(), "panic", p, "stack", string(debug.Stack()))
			out = h.failure(c, fmt.Errorf("panic: %v", p))
		}
	}()
	client := c.r.Context()
	out, err := h.serve(c)
	switch {
	case err == nil:
		return out
	case httperror.ClientGone(client, err):
		return reply{gone: true}
	default:
		return h.failure(c, err)
	}
}

func (h *Handler) serve(c *call) (reply, error) {
	if err := h.admission.resume(c); err != nil {
		return reply{}, err
	}
	relayed := h.o.Relay && (c.route == nil || c.route.Role != "")
	admit := h.admission.admit
	if relayed {
		admit = h.admission.admitUnverified
	}
	if err := admit(c); err != nil {
		return reply{}, err
	}
	if c.route == nil {
		return reply{}, h.router.unrouted(c.r)
	}
	if err := h.read(c); err != nil {
		return reply{}, err
	}
	defer h.limit(c)()
	if !c.route.free { // a health check must get through
		release, err := h.o.Limits.queue.Acquire(c.r.Context(), h.admission.flowKey(c))
		if err != nil {
			return reply{}, err
		}
		defer release()
	}
	if relayed && !c.route.streams {
		return h.proxyToLeader(c)
	}
	if h.o.Forward != nil && !c.route.here && (c.route.writes || c.route.asks || c.consistent) {
		out, done, err := h.forward(c)
		if alone := conf.CodeOf(err) == conf.CodeNoQuorum && c.route.asks && !c.consistent; !alone && (done || err != nil) {
			return out, err
		}
	}
	return h.handle(c)
}

// handle answers a call here.
func (h *Handler) handle(c *call) (reply, error) {
	if c.consistent && h.o.Consistent != nil {
		if err := h.o.Consistent(c.r.Context()); err != nil {
			return reply{}, err
		}
	}
	out, err := c.route.handle(c)
	if err != nil {
		return reply{}, err
	}
	if c.route.audit {
		h.admission.record(c, "read", true, "")
	}
	if h.o.Age != nil && slices.Contains(c.route.Query, consistentParam) {
		out.header = h.age(out.header)
	}
	return out, nil
}

// age adds how old a local response may be, in the headers of the local API.
func (h *Handler) age(header http.Header) http.Header {
	if header == nil {
		header = http.Header{}
	}
	source, age := h.o.Age()
	if source != "" {
		header.Set("X-Config-Source", source)
	}
	if age >= 0 {
		header.Set("X-Config-Age", strconv.FormatInt(int64(age/time.Second), 10))
	}
	return header
}

// read decodes what the caller sent.
func (h *Handler) read(c *call) error {
	if err := h.origin.Check(c.r); err != nil {
		return conf.Errorf(conf.CodeDenied, "a page of another origin may not do this: %w", err).
			WithHint("call the API from its own origin, or from a program instead of a browser")
	}
	return c.decode(h.o.BodyTimeout)
}

// limit bounds the time of a call that has been read. What changes something goes on
// when its client disconnects: half a client's wait must not decide how a change ends.
func (h *Handler) limit(c *call) context.CancelFunc {
	ctx, cancel := context.WithValue(c.r.Context(), targetKey{}, c.target()), context.CancelFunc(func() {})
	if c.route.long || c.route.writes {
		ctx = context.WithoutCancel(ctx)
	}
	if c.route.long {
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	} else {
		ctx, cancel = context.WithTimeout(ctx, h.o.Timeout)
	}
	c.r = c.r.WithContext(ctx)
	return cancel
}

// write sends the reply and returns its status.
func (h *Handler) write(c *call, out reply) int {
	if out.status == 0 {
		out.status = http.StatusOK
	}
	header := c.w.Header()
	for k, v := range out.header {
		header[k] = v
	}
	if c.renewal != "" && out.status != http.StatusUnauthorized {
		header.Set("Set-Cookie", c.renewal)
	}
	if out.status == http.StatusNotModified {
		c.w.WriteHeader(out.status)
		return out.status
	}
	data := out.raw
	if data == nil {
		var err error
		if data, err = httperror.Marshal(out.body); err != nil {
			out = h.failure(c, fmt.Errorf("encode the answer: %w", err))
			data, _ = httperror.Marshal(out.body) // strings cannot fail
		}
		data = append(data, '\n')
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	if strict, byType := c.strict(); strict {
		data = strictBody(out.status, data)
		if byType {
			header.Set("Content-Type", strictType)
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(data)))
	c.w.WriteHeader(out.status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(data) // fails when the caller has disconnected
	}
	return out.status
}
