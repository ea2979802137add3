package membership

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// Placeholder answers on an agent's ports while it joins, which may take long. The ports
// are bound before, so that what is wrong with them is reported at once, and a caller
// that connects must not hang. It has no values and no tokens yet: everything is
// rejected but /healthz.
type Placeholder struct {
	ls      []*detachableListener
	servers []*http.Server
	wg      sync.WaitGroup
}

// detachableListener ends Accept without closing the listener.
type detachableListener struct {
	net.Listener
	once     sync.Once
	detached chan struct{}
}

// deadliner is what TCP and unix listeners have.
type deadliner interface{ SetDeadline(t time.Time) error }

func (d *detachableListener) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	select {
	case <-d.detached:
		if c != nil {
			_ = c.Close()
		}
		return nil, net.ErrClosed
	default:
		return c, err
	}
}

// Close ends Accept and leaves the listener open: a caller that connects from now on
// waits for the next one to accept.
func (d *detachableListener) Close() error {
	d.once.Do(func() {
		close(d.detached)
		if l, ok := d.Listener.(deadliner); ok {
			_ = l.SetDeadline(time.Now())
		}
	})
	return nil
}

// ServePlaceholder answers on the listeners until Detach. at is where this agent joins.
func ServePlaceholder(at string, local, socket, admin net.Listener) *Placeholder {
	p := &Placeholder{}
	rejection := conf.Errorf(conf.CodeReadOnly, "this agent has not joined the cluster yet: it has no values").
		WithHint("it tries again by itself, at %s; its log says what keeps it", at)
	p.open([]net.Listener{local, socket}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" { // alive: restarting it helps nobody
			event, text := "joining the cluster at "+at, rejection.Message
			w.Header().Set("X-Content-Type-Options", "nosniff")
			httperror.WriteJSON(w, http.StatusOK, conf.Health{
				DatabaseStatus: conf.DatabaseHealthy, OperationalMode: conf.ModeReadOnly, LitestreamStatus: "disabled", Event: &event, Err: &text,
			})
			return
		}
		reject(w, rejection)
	})
	p.open([]net.Listener{admin}, func(w http.ResponseWriter, _ *http.Request) { reject(w, rejection) })
	return p
}

func (p *Placeholder) open(ls []net.Listener, h http.HandlerFunc) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	srv.SetKeepAlivesEnabled(false) // the next request finds the agent itself
	p.servers = append(p.servers, srv)
	for _, l := range ls {
		if l == nil {
			continue
		}
		d := &detachableListener{Listener: l, detached: make(chan struct{})}
		p.ls = append(p.ls, d)
		p.wg.Go(func() { _ = srv.Serve(d) })
	}
}

// Detach gives the listeners back, open.
func (p *Placeholder) Detach() error {
	for _, s := range p.servers {
		_ = s.Close()
	}
	p.wg.Wait()
	var errs []error
	for _, d := range p.ls {
		_ = d.Close()
		if l, ok := d.Listener.(deadliner); ok {
			errs = append(errs, l.SetDeadline(time.Time{}))
		}
	}
	return errors.Join(errs...)
}

// reject writes an error as the APIs write theirs.
func reject(w http.ResponseWriter, e *conf.Error) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	httperror.New(e).Write(w)
}
