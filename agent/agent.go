package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Agent is one running agent. Make it with New, then call Run once.
type Agent struct {
	o    Options
	log  *slog.Logger
	info Info
	lock *os.File // held while the agent uses its directory

	sup       *supervisor
	cluster   *cluster
	source    *source
	writer    *lkg.Writer
	broker    *broker.Broker    // nil when it is off
	publisher *broker.Publisher // nil without an outside broker
	audit     *auditor
	explain   *explainer
	share     *admin.Share // of the admin API among its callers

	local   *localapi.Server
	admin   *http.Server
	adminL  net.Listener
	localL  net.Listener
	socketL net.Listener
}

// Info is what a person needs to know of a running agent.
type Info struct {
	AdminURL  string
	LocalURL  string
	Cluster   string // where other agents join
	Socket    string // "" when it is off
	MQTT      string // the embedded broker; "" when it is off
	NodeID    string
	DataDir   string
	EnvFile   string
	Generated []string     // names of the variables that this start added to the .env file
	Tokens    []keys.Token // the API tokens; never log them
	Source    string       // what the view was filled from before the replica: lkg or ""
	Registry  prometheus.Gatherer
}

// New builds an agent and opens its listeners. When it returns, the local API
// answers from the last-known-good file, if there is a good one. It fails when
// the settings, the keys or the ports are not usable, and then leaves nothing
// open. The error of keys that could not be written has a method Lines() with
// the lines for the .env file, for the caller to print once.
func New(ctx context.Context, o Options, log *slog.Logger) (_ *Agent, err error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	a := &Agent{o: o, log: log}
	defer func() {
		if err != nil {
			a.closeFiles()
		}
	}()
	if a.lock, err = lockDir(o.DataDir); err != nil {
		return nil, err
	}
	if a.o.NodeID, err = nodeID(o); err != nil {
		return nil, err
	}
	if err := a.listen(); err != nil {
		return nil, err
	}
	// First of all: a join brings the keys.
	if a.cluster, err = openCluster(ctx, a.o, log, a.whileJoining); err != nil {
		return nil, err
	}
	set, generated, err := keys.Load(o.Env, o.EnvFile, keys.Options{
		Role: string(a.cluster.port.Identity().Role), Joined: a.cluster.joined(),
	})
	if err != nil {
		return nil, err
	}
	for _, w := range generated.Warnings {
		log.Warn(w)
	}
	token, err := localToken(o.localTokenFile())
	if err != nil {
		return nil, err
	}
	if err := a.build(set); err != nil {
		return nil, err
	}
	if err := a.servers(set, token); err != nil {
		return nil, err
	}
	if err := a.brokers(); err != nil {
		return nil, err
	}
	a.info = Info{
		AdminURL: "http://" + reachable(a.adminL.Addr()), LocalURL: "http://" + a.localL.Addr().String(), Cluster: a.cluster.port.Addr(), NodeID: a.o.NodeID,
		DataDir: o.DataDir, EnvFile: o.EnvFile, Generated: generated.Names, Tokens: set.Tokens, Source: a.sup.view.Load().Source,
	}
	if a.socketL != nil {
		a.info.Socket = a.o.LocalSocket
	}
	return a, nil
}

// build wires everything below the servers, and fills the view from the
// last-known-good file.
func (a *Agent) build(set keys.Set) error {
	cache := schema.NewCache()
	ring := keys.NewRing(set)
	vault := keys.NewVault(ring)
	known := secrets{environment{lookup: a.o.LookupEnv, schemas: cache, warn: a.log.Warn}, vault, a.log, a.o.ServiceName, &lostSecrets{}}
	render := &localapi.Renderer{Secrets: known.of}
	v := view.New(render.Render)
	s := &supervisor{
		o: a.o, log: a.log, keys: ring, vault: vault, st: newStatus(), view: v, schemas: cache, rebuilds: make(chan *rebuildPlan),
		keyTurn: make(chan struct{}, 1), rotateTurn: make(chan struct{}, 1), lost: known.lost,
	}
	a.sup = s
	a.explain = newExplainer(known, v, s)
	s.cluster, a.cluster.s = a.cluster, s
	vault.Active = func() string { return s.inUse(conf.KeyMaster) }
	eo := edit.Options{
		Proposer: s, Records: records{v}, Archive: s, Schemas: cache, Vault: vault,
		Signer: s.signer, Ready: s.writable,
	}
	eo.Confirm = a.cluster.confirm
	s.editor = edit.New(eo)
	eo.Confirm = nil
	eo.Ready = func() error { return nil } // the agent's own edits are what makes it ready
	s.system = edit.New(eo)
	hmacs := set.HMACKeys("")
	loaded := a.loadLKG(hmacs...)
	a.source = &source{v: v, age: s.age}
	a.source.refresh()
	g := &good{v: v, epoch: v.Load().Epoch}
	if loaded != nil {
		g.past, s.past = loaded.Past, loaded.Past
	}
	hmac := hmacs[0]
	if loaded != nil {
		hmac = hmacs[loaded.By] // until the session says which one is in use
	}
	a.writer = lkg.NewWriter(a.o.LKGPath, hmac, g, a.log, lkg.WriterOptions{Loaded: loaded})
	s.lkg = a.writer
	a.audit = newAuditor(a.o.auditSpool(), s.proposeRows, a.log)
	s.audit = a.audit
	return nil
}

// servers makes the two APIs over it.
func (a *Agent) servers(set keys.Set, token string) error {
	var err error
	registry := prometheus.NewRegistry()
	a.share = admin.NewShare()
	registry.MustRegister(newMetrics(a.sup, a.audit, a.share), newBackupMetrics(a.sup), mqttMetrics{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.local, err = localapi.New(localapi.Options{
		Service: a.o.ServiceName, Source: a.source, Token: func() string { return token }, Keys: a.sup.verifying,
		Health: a.sup.Health, Ready: a.sup.serving, Explain: a.explain.Explain, Logger: a.log, Metrics: registry,
	})
	if err != nil {
		return err
	}
	b := &backend{records: records{a.sup.view}, s: a.sup, schemas: a.sup.schemas, editor: a.sup.editor}
	ao := admin.Options{
		Auth: &authenticator{keys.NewAuthenticator(set.Tokens), a.sup, time.Now}, Audit: a.audit, Health: a.sup, Reader: reader{b}, Queries: a.sup, Versions: a.sup,
		Schemas: schemaReader{b}, Profiles: a.sup, Editor: a.sup.editor, SchemaEditor: writer{b}, ProfileEditor: writer{b},
		Rebuilder: a.sup, Cluster: a.cluster, Keys: a.cluster, APITokens: apiTokens{a.cluster}, Secrets: a.explain, Backups: a.sup, Logger: a.log,
		Share:       a.share,
		RequestKeys: func() [][]byte { return a.sup.keys.Get().RequestKeys(a.sup.inUse(conf.KeyMaster)) },
	}
	// What members send here is answered here: only the port for callers forwards.
	ao.Consistent = a.cluster.confirm
	// A member's address stands for all who asked it, and it slows each of them by
	// itself: one that guesses must not lock out the others.
	ao.FailRate, ao.FailBurst = 100, 1000
	ao.Self, ao.Caller = a.cluster.self, forwardedBy
	inner, err := admin.New(ao)
	if err != nil {
		return err
	}
	a.cluster.routes(inner)
	ao.FailRate, ao.FailBurst = 0, 0
	ao.Forward, ao.Consistent = a.cluster, a.cluster.Consistent
	ao.Caller = nil
	ao.Age = func() (string, time.Duration) { return a.sup.view.Load().Source, a.sup.age() }
	ao.Relay = a.cluster.port.Identity().Role == transport.RoleSidecar
	h, err := admin.New(ao)
	if err != nil {
		return err
	}
	a.admin = admin.NewServer(h)
	return nil
}

// whileJoining answers on the agent's ports until leave is called.
func (a *Agent) whileJoining() (leave func() error) {
	return keepDoors(a.o.Join, a.localL, a.socketL, a.adminL).leave
}

// loadLKG fills the view from the last-known-good file, when it is good.
func (a *Agent) loadLKG(keys ...[]byte) *lkg.Content {
	c, err := lkg.Load(a.o.LKGPath, keys...)
	switch {
	case err == nil:
		a.sup.heard.Store(c.GeneratedAt.UnixNano())
		a.sup.view.Reset(view.SourceLKG, c.Epoch, c.Index, c.Records)
		a.sup.loaded.Store(true)
		a.log.Info("serving the last known good values", "services", len(c.Records), "epoch", c.Epoch, "generated_at", conf.FormatTime(c.GeneratedAt))
	case conf.CodeOf(err) == conf.CodeNotFound:
	default:
		a.sup.st.setLKG(err)
		a.log.Error("the last-known-good file is refused; a fresh one is written as soon as the replica is up", "path", a.o.LKGPath, "err", err)
	}
	return c
}

func (a *Agent) listen() (err error) {
	if a.localL, err = bind("tcp", a.o.LocalAddr, "CONFIG_LOCAL_ADDR"); err != nil {
		return err
	}
	if a.adminL, err = bind("tcp", net.JoinHostPort(a.o.ManagerHost, a.o.ManagerPort), "CONFIG_MANAGER_HOST and CONFIG_MANAGER_PORT"); err != nil {
		return err
	}
	a.socketL, err = listenSocket(a.o.LocalSocket, a.log)
	return err
}

// listenSocket opens the unix socket of the local API; nil when it is off.
func listenSocket(path string, log *slog.Logger) (net.Listener, error) {
	if path == "none" {
		return nil, nil //nolint:nilnil // none is not an error
	}
	if err := removeStaleSocket(path); err != nil {
		return nil, err
	}
	l, err := bind("unix", path, "CONFIG_LOCAL_SOCKET")
	if err != nil {
		if len(path) < 100 {
			return nil, err
		}
		// sun_path holds 108 bytes: a deep directory must not keep the agent down.
		log.Warn("the unix socket is off: its path is too long; set CONFIG_LOCAL_SOCKET", "path", path)
		return nil, nil //nolint:nilnil // see above
	}
	return l, os.Chmod(path, 0o666) //nolint:gosec // plain values need no proof; secrets ask for the peer's uid
}

func bind(network, addr, setting string) (net.Listener, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // without the address, which is told already
		}
		return nil, conf.Errorf(conf.CodeUsage, "cannot listen on %s: %w", addr, err).WithHint("stop what uses it, or set %s", setting)
	}
	return l, nil
}

// removeStaleSocket removes the socket that a killed agent left. The lock on the
// data directory says that no other agent of this directory runs.
func removeStaleSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return conf.Errorf(conf.CodeUsage, "%s exists and is not a socket", path).WithHint("move it away, or set CONFIG_LOCAL_SOCKET")
	}
	return os.Remove(path)
}

// Info tells where a running agent is found.
func (a *Agent) Info() Info {
	i := a.info
	i.NodeID = a.cluster.self()
	if a.broker != nil {
		i.MQTT = "mqtt://" + a.broker.Addr().String()
		if a.o.MQTTCert != "" {
			i.MQTT = "mqtts://" + a.broker.Addr().String()
		}
	}
	return i
}

// Health is this agent's health, from memory.
func (a *Agent) Health() conf.Health { return a.sup.Health() }

// AwaitReady returns when the agent is in normal mode, or with ctx's error.
func (a *Agent) AwaitReady(ctx context.Context) error {
	for {
		a.sup.st.mu.Lock()
		mode, changed := a.sup.st.mode, a.sup.st.notify
		a.sup.st.mu.Unlock()
		if mode == conf.ModeNormal {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), a.sup.st.ready())
		}
	}
}

// Run serves until ctx ends, then stops everything in reverse order: writers
// first, then the replica, and last the last-known-good file. It returns nil
// after an orderly stop.
func (a *Agent) Run(ctx context.Context) error {
	defer a.closeFiles()
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, 4)
	var servers, state, audit, replica sync.WaitGroup

	state.Go(func() { a.source.run(stop) })
	serve := func(f func() error) {
		servers.Go(func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		})
	}
	serve(func() error { return a.local.Serve(a.localL) })
	if a.socketL != nil {
		serve(func() error { return a.local.Serve(a.socketL) })
	}
	serve(func() error { return a.admin.Serve(admin.Limit(a.adminL, a.share)) })

	a.cluster.port.Start()
	replicaCtx, stopReplica := context.WithCancel(stop)
	defer stopReplica()
	replica.Go(func() { a.sup.run(replicaCtx) })
	writerCtx, stopWriter := context.WithCancel(stop)
	defer stopWriter()
	state.Go(func() { a.writer.Run(writerCtx) })
	brokerCtx, stopBrokers := context.WithCancel(stop)
	defer stopBrokers()
	waitBrokers := a.runBrokers(brokerCtx, failed)
	auditCtx, stopAudit := context.WithCancel(stop)
	defer stopAudit()
	audit.Go(func() { a.audit.run(auditCtx) })

	var err error
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case err = <-failed:
		a.log.Error("a server failed: stopping", "err", err)
	}
	graceful, done := context.WithTimeout(stop, 10*time.Second)
	defer done()
	_ = a.admin.Shutdown(graceful)
	_ = a.local.Stop(graceful)
	servers.Wait()
	stopBrokers()
	waitBrokers()
	stopAudit()
	audit.Wait()
	stopWriter()
	if ferr := a.writer.Flush(graceful); ferr != nil {
		a.log.Warn("the last-known-good file was not written at the stop", "err", ferr)
	}
	stopReplica()
	replica.Wait()
	_ = a.cluster.port.Stop(graceful)
	cancel()
	state.Wait()
	return err
}

func (a *Agent) closeFiles() {
	for _, l := range []net.Listener{a.localL, a.adminL, a.socketL} {
		if l != nil {
			_ = l.Close()
		}
	}
	if a.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = a.cluster.port.Stop(ctx)
	}
	if a.lock != nil {
		_ = a.lock.Close()
	}
}

// lockDir makes sure that one agent at a time uses a directory: two would write
// one database under one node id. The lock ends with the process.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "agent.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, conf.Errorf(conf.CodeUsage, "another agent runs in %s", dir).WithHint("stop it, or set CONFIG_DATA_DIR to another directory")
	}
	return f, nil
}

// reachable writes a bound address so that a client on this host can use it.
func reachable(addr net.Addr) string {
	t, ok := addr.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", t.Port)
}
