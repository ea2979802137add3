package agent

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// doorkeeper answers on an agent's ports while it joins, which takes as long as
// nobody lets it in: its ports are bound before, so that what is wrong with them
// is told at once, and whoever connects must not hang. It has no values yet and
// holds no token, so that it knows nobody: everything is refused but /healthz.
type doorkeeper struct {
	doors   []*door
	servers []*http.Server
	wg      sync.WaitGroup
}

// door is a listener that can be left without closing it.
type door struct {
	net.Listener
	once sync.Once
	left chan struct{}
}

// deadliner is what TCP and unix listeners have.
type deadliner interface{ SetDeadline(t time.Time) error }

func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	select {
	case <-d.left:
		if c != nil {
			_ = c.Close()
		}
		return nil, net.ErrClosed
	default:
		return c, err
	}
}

// Close ends Accept and leaves the listener open: who connects from now on waits
// for the next one to accept.
func (d *door) Close() error {
	d.once.Do(func() {
		close(d.left)
		if l, ok := d.Listener.(deadliner); ok {
			_ = l.SetDeadline(time.Now())
		}
	})
	return nil
}

// keepDoors answers on the listeners until leave. at is where this agent joins.
func keepDoors(at string, local, socket, admin net.Listener) *doorkeeper {
	k := &doorkeeper{}
	refuse := conf.Errorf(conf.CodeReadOnly, "this agent has not joined the cluster yet: it has no values").
		WithHint("it tries again by itself, at %s; its log says what keeps it", at)
	k.open([]net.Listener{local, socket}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" { // alive: restarting it helps nobody
			event, text := "joining the cluster at "+at, refuse.Message
			writePlain(w, http.StatusOK, conf.Health{
				DatabaseStatus: conf.DatabaseHealthy, OperationalMode: conf.ModeReadOnly, LitestreamStatus: "disabled", Event: &event, Err: &text,
			})
			return
		}
		refusePlain(w, refuse)
	})
	k.open([]net.Listener{admin}, func(w http.ResponseWriter, _ *http.Request) { refusePlain(w, refuse) })
	return k
}

func (k *doorkeeper) open(ls []net.Listener, h http.HandlerFunc) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	srv.SetKeepAlivesEnabled(false) // the next request finds the agent itself
	k.servers = append(k.servers, srv)
	for _, l := range ls {
		if l == nil {
			continue
		}
		d := &door{Listener: l, left: make(chan struct{})}
		k.doors = append(k.doors, d)
		k.wg.Go(func() { _ = srv.Serve(d) })
	}
}

// leave gives the listeners back, open.
func (k *doorkeeper) leave() error {
	for _, s := range k.servers {
		_ = s.Close()
	}
	k.wg.Wait()
	var errs []error
	for _, d := range k.doors {
		_ = d.Close()
		if l, ok := d.Listener.(deadliner); ok {
			errs = append(errs, l.SetDeadline(time.Time{}))
		}
	}
	return errors.Join(errs...)
}

// refusePlain is an error as the APIs write theirs.
func refusePlain(w http.ResponseWriter, e *conf.Error) {
	w.Header().Set("Retry-After", "1")
	writePlain(w, http.StatusServiceUnavailable, map[string]any{"success": false, "error": e.Message, "code": e.Code, "hint": e.Hint})
}

func writePlain(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
