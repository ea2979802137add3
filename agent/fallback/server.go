package fallback

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/renderjob"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/ofrep"
	"github.com/holdfast-config/holdfast/localapi/ui"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/view"
)

// server serves the last-known-good file.
type server struct {
	log      *slog.Logger
	alarms   *alarm.Set // until the agent starts
	own      []string   // the services beside this agent
	view     *documents.View
	provider *documents.LocalProvider
	local    *localapi.Server
	admin    *http.Server
	files    *renderjob.Job              // nil without CONFIG_RENDER
	adminTLS func() (*tls.Config, error) // nil for plain HTTP
	cause    atomic.Pointer[conf.Error]  // what keeps the agent from starting

	stop    context.CancelFunc
	serving sync.WaitGroup
	lent    []*process.Lent
	opened  map[net.Listener]bool
}

// stopTimeout bounds the handover: streams and long polls are cut.
const stopTimeout = 3 * time.Second

// newServer loads the file. The error says why there is nothing to serve.
func newServer(o options.Options, log *slog.Logger) (*server, error) {
	set, hmacs := keys.Salvage(o.Env, o.EnvFile)
	if len(hmacs) == 0 {
		return nil, conf.Errorf(conf.CodeInvalid, "%s is not readable", keys.EnvHMACKey).WithHint("put the .env file back")
	}
	loaded, err := lkg.Load(o.LKGPath, hmacs...)
	if err != nil {
		return nil, err
	}
	if o.Role == options.RoleObserver { // the file of an observer has no schemas
		raw, err := schemas.ReadCanonical(o.SchemaDir)
		if err != nil {
			log.Warn("the schema directory cannot be read: secrets from the environment are missing", "err", err)
		}
		for _, rec := range loaded.Records {
			rec.Schema = raw[rec.Service]
		}
	}
	if err := loaded.Journal.Err; err != nil {
		log.Warn("not all of the last-known-good journal is used", "err", err, "hint", conf.HintOf(err))
	}
	f := &server{log: log, alarms: alarm.NewSet(log), own: o.Services(), opened: map[net.Listener]bool{}}
	own := ""
	if len(f.own) > 0 {
		own = f.own[0]
	}
	cache := schema.NewCache()
	secrets := documents.NewSecrets(documents.SecretsOptions{
		Lookup: o.LookupEnv, Allowed: o.EnvAllowed, Schemas: cache, Sealer: keys.NewSealer(keys.NewHolder(set)), Service: own, Logger: log,
	})
	f.view = documents.NewView(secrets)
	f.files = renderjob.New(renderjob.Options{Path: o.Render, View: f.view, Secrets: secrets, Logger: log})
	f.view.Reset(view.SourceLKG, loaded.Epoch, loaded.Index, served.FromFile(loaded, served.LoadMarks(o.MarksDir(), hmacs, log)))
	start := time.Now()
	old := max(0, start.Sub(loaded.GeneratedAt)) // and from now on by the monotonic clock
	f.provider = documents.NewLocalProvider(f.view, func() time.Duration { return old + time.Since(start) })
	token, _ := os.ReadFile(o.LocalTokenFile()) // without it secrets are for the unix socket only
	f.local, err = localapi.New(localapi.Options{
		Service: own, Source: f.provider, Token: func() string { return strings.TrimSpace(string(token)) },
		Keys: func() []localapi.Key { return publicKeys(set) }, Health: f.health, Ready: f.ready, Logger: log,
		Front: o.LocalFront == "on",
	})
	if err != nil {
		return nil, err
	}
	ofrep.Register(f.local, cache)
	var admin http.Handler = http.HandlerFunc(f.serveAdmin)
	if o.Role != options.RoleObserver { // which has no page
		admin = ui.Over(admin)
	}
	f.admin = &http.Server{
		Handler: admin, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	f.admin.SetKeepAlivesEnabled(false)                                  // the next request may find the agent itself
	f.admin.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // of handshakes: anybody can fail one
	f.adminTLS = func() (*tls.Config, error) { return process.AdminTLS(&o, log) }
	log.Info("serving the last known good values", "services", len(loaded.Records), "epoch", loaded.Epoch, "generated_at", conf.FormatTime(loaded.GeneratedAt))
	return f, nil
}

func publicKeys(set keys.Set) (out []localapi.Key) {
	for _, pub := range []ed25519.PublicKey{set.Public, set.OldPublic} {
		if k, err := localapi.NewKey(seal.KeyID(pub), pub); err == nil {
			out = append(out, k)
		}
	}
	return out
}

// report logs what keeps the agent from starting, and reports whether it is something
// else than before.
func (f *server) report(cause error) bool {
	e := conf.Errorf(conf.CodeReadOnly, "this agent cannot start, and serves the last known good values from memory: %s", cause.Error()).
		WithHint("%s", conf.HintOf(cause))
	if was := f.cause.Swap(e); was != nil && was.Message == e.Message {
		return false
	}
	f.alarms.Raise(alarm.CannotStart, "", cause)
	return true
}

// open serves at the ports.
func (f *server) open(held *process.Held) {
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.serving.Go(func() { f.provider.Run(ctx) })
	f.serving.Go(func() { f.files.Run(ctx) })
	f.serve(held)
}

// serve serves at the ports that are not served yet.
func (f *server) serve(held *process.Held) {
	serve := func(l net.Listener, serve func(net.Listener) error) {
		if l == nil || f.opened[l] {
			return
		}
		f.opened[l] = true
		lent := process.Lend(l)
		f.lent = append(f.lent, lent)
		f.serving.Go(func() {
			if err := serve(lent); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				f.alarms.Raise(alarm.PortNotServed, l.Addr().String(), err, "addr", l.Addr().String())
			}
		})
	}
	serve(held.Local, f.local.Serve)
	serve(held.Socket, f.local.Serve)
	if held.Admin == nil || f.opened[held.Admin] {
		return
	}
	secure, err := f.adminTLS()
	if err != nil { // it may be what keeps the agent from starting
		f.alarms.Raise(alarm.AdminUnserved, "admin", err)
		return
	}
	f.admin.TLSConfig = secure
	serve(held.Admin, func(l net.Listener) error { return process.ServeAdmin(f.admin, l, secure != nil) })
}

// close ends the servers and leaves the ports open for the next one.
func (f *server) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	_ = f.local.Stop(ctx)
	_ = f.admin.Close()
	f.stop()
	f.serving.Wait()
	for _, l := range f.lent {
		if err := l.Return(); err != nil {
			f.log.Warn("a port is not handed over", "addr", l.Addr().String(), "err", err)
		}
	}
}

// health is that of an agent that has only its file.
func (f *server) health() conf.Health {
	event, text := "the agent cannot start", f.cause.Load().Message
	if hint := f.cause.Load().Hint; hint != "" {
		text += "; " + hint
	}
	h := conf.Health{
		DatabaseStatus: conf.DatabaseHealthy, ConfigEpoch: f.view.Load().Epoch, LKGCacheValid: true, LitestreamStatus: "disabled", Event: &event, Err: &text,
	}
	conf.Standing{Able: conf.ModeReadOnly}.Judge(&h)
	return h
}

// ready is nil when the services beside this agent have their values.
func (f *server) ready() error {
	for _, service := range f.own {
		if e, ok := f.view.Get(service); !ok || !e.Record.Exists() {
			return conf.Errorf(conf.CodeNotFound, "the service %q beside this agent has no configuration in the last-known-good file, and the agent cannot start", service).
				WithHint("see: holdfast health")
		}
	}
	return nil
}

// serveAdmin answers at the admin port: the health, and why nothing else works. The page, which needs no
// more than that, tells people.
func (f *server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodGet && r.URL.Path == "/api/config/health" {
		httperror.WriteJSON(w, http.StatusOK, f.health())
		return
	}
	w.Header().Set("Retry-After", "1")
	httperror.New(f.cause.Load()).Write(w)
}
