package membership

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// Placeholder answers on an agent's ports while it joins, which may take long. The ports
// are bound before, so that what is wrong with them is reported at once, and a caller
// that connects must not hang. It has no values and no tokens yet: everything is
// rejected but /healthz.
type Placeholder struct {
	ls      []*process.Lent
	servers []*http.Server
	wg      sync.WaitGroup
}

// ServePlaceholder answers on the listeners until Detach. at is where this agent joins, secure
// the certificate of the admin port, nil for plain HTTP.
func ServePlaceholder(at string, local, socket, admin net.Listener, secure *tls.Config) *Placeholder {
	p := &Placeholder{}
	rejection := conf.Errorf(conf.CodeReadOnly, "this agent has not joined the cluster yet: it has no values").
		WithHint("it tries again by itself, at %s; its log says what keeps it", at)
	p.open([]net.Listener{local, socket}, nil, func(w http.ResponseWriter, r *http.Request) {
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
	p.open([]net.Listener{admin}, secure, func(w http.ResponseWriter, _ *http.Request) { reject(w, rejection) })
	return p
}

func (p *Placeholder) open(ls []net.Listener, secure *tls.Config, h http.HandlerFunc) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
		TLSConfig: secure, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // of handshakes: anybody can fail one
	}
	srv.SetKeepAlivesEnabled(false) // the next request finds the agent itself
	p.servers = append(p.servers, srv)
	for _, l := range ls {
		if l == nil {
			continue
		}
		d := process.Lend(l)
		p.ls = append(p.ls, d)
		p.wg.Go(func() { _ = process.ServeAdmin(srv, d, secure != nil) })
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
		errs = append(errs, d.Return())
	}
	return errors.Join(errs...)
}

// reject writes an error as the APIs write theirs.
func reject(w http.ResponseWriter, e *conf.Error) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	httperror.New(e).Write(w)
}
