package observer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Observer is an agent that is not a member of the cluster. Make it with New, then
// call Run once.
type Observer struct {
	o        options.Options
	log      *slog.Logger
	services []string
	lock     *os.File
	localL   net.Listener
	socketL  net.Listener

	view     *documents.View
	provider *documents.LocalProvider
	receiver *updates.Receiver
	learned  *learnedKeys
	writer   *lkg.Writer
	lkgErr   error // why the file was rejected at the start
	accepted *acceptedState
	link     *brokerLink
	fetch    *fetcher
	local    *localapi.Server
}

// New builds an observer and opens its listeners. When it returns, the local API
// serves the last-known-good file, if there is a valid one.
func New(o options.Options, log *slog.Logger) (_ *Observer, err error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	b := &Observer{o: o, log: log}
	defer func() {
		if err != nil {
			b.closeFiles()
		}
	}()
	if isMemberDir(o) {
		return nil, conf.Errorf(conf.CodeUsage, "%s is the directory of a member of a cluster", o.DataDir).
			WithHint("give the observer a directory of its own: CONFIG_DATA_DIR")
	}
	if b.lock, err = process.LockDir(o.DataDir); err != nil {
		return nil, err
	}
	if b.localL, err = process.Listen("tcp", o.LocalAddr, "CONFIG_LOCAL_ADDR"); err != nil {
		return nil, err
	}
	if b.socketL, err = process.ListenSocket(o.LocalSocket, log); err != nil {
		return nil, err
	}
	trust, err := trustedKeys(o)
	if err != nil {
		return nil, err
	}
	set, generated, err := keys.Load(withPublicKey(o.Env, trust[0]), o.EnvFile, keys.Options{Role: conf.MemberSidecar})
	if err != nil {
		return nil, err
	}
	for _, w := range generated.Warnings {
		log.Warn(w)
	}
	token, err := process.LocalToken(o.LocalTokenFile())
	if err != nil {
		return nil, err
	}
	if err := b.load(set, updates.Options{Services: ownServices(o), Trust: trust, Accept: o.AcceptEpoch}); err != nil {
		return nil, err
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, b.newLocalAPI(token)
}

// isMemberDir reports whether a Raft log is in the data directory.
func isMemberDir(o options.Options) bool {
	if _, err := os.Lstat(filepath.Join(o.RaftDir(), "raft.db")); !errors.Is(err, os.ErrNotExist) {
		return true
	}
	snapshots, err := os.ReadDir(filepath.Join(o.RaftDir(), "snapshots"))
	return err == nil && len(snapshots) > 0
}

// load fills the view from the last-known-good file, and makes the parts that verify
// and store updates.
func (b *Observer) load(set keys.Set, ro updates.Options) error {
	if b.services = ro.Services; len(b.services) == 0 {
		return conf.Errorf(conf.CodeUsage, "an observer needs the name of a service").WithHint("set --service NAME, or CONFIG_SERVICE_NAME")
	}
	// What the cluster has of a schema is not signed; a file that the operator put
	// beside the observer is trusted.
	raw, err := schemas.ReadCanonical(b.o.SchemaDir)
	if err != nil {
		return err
	}
	cache := schema.NewCache()
	b.view = documents.NewView(documents.NewSecrets(documents.SecretsOptions{
		Lookup: b.o.LookupEnv, Allowed: b.o.EnvAllowed, Schemas: cache, Sealer: keys.NewSealer(keys.NewHolder(set)), Logger: b.log,
	}))
	b.link = newBrokerLink()
	b.accepted = newAcceptedState(b.view, raw, b.link, b.log)
	loaded, err := lkg.Load(b.o.LKGPath, set.HMAC)
	switch {
	case err == nil:
		ro.Epoch, ro.Past = loaded.Epoch, loaded.PastEpochs
		ro.Records = b.accepted.restore(loaded, b.services)
		b.log.Info("serving the last known good values", "services", len(ro.Records), "epoch", loaded.Epoch, "generated_at", conf.FormatTime(loaded.GeneratedAt))
	case conf.CodeOf(err) == conf.CodeNotFound:
		b.accepted.serveDefaults(cache, b.services)
	default:
		b.lkgErr = err
		b.log.Error("last-known-good file rejected, the next update writes a new one", "path", b.o.LKGPath, "err", err)
		b.accepted.serveDefaults(cache, b.services)
	}
	b.learned = &learnedKeys{path: b.o.LearnedKeysFile(), macs: set.HMACKeys(set.HMACID), log: b.log}
	if ro.Learned, err = b.learned.load(); err != nil {
		b.log.Warn("the saved keys are not believed: fetching them again", "path", b.learned.path, "err", err)
	}
	if b.receiver, err = updates.New(ro); err != nil {
		return err
	}
	b.learned.reportSavedKeys(ro.Learned, b.receiver)
	b.provider = documents.NewLocalProvider(b.view, b.age)
	source := documents.NewLKGProvider(b.view, ro.Epoch, ro.Past, func(s *documents.Snapshot) bool { return s.Epoch != "" })
	b.writer = lkg.NewWriter(b.o.LKGPath, set.HMAC, source, b.log, lkg.WriterOptions{Loaded: loaded})
	b.fetch = newFetcher(b)
	b.accepted.receiver, b.accepted.writer, b.accepted.fetch = b.receiver, b.writer, b.fetch
	return nil
}

// maxFilters is how many subscriptions an embedded broker grants to one client.
const maxFilters = 32

// connect makes the clients of the members and of the broker.
func (b *Observer) connect() error {
	url := b.o.Observe
	if url == "" {
		url = b.o.MQTTURL
	}
	token, _ := b.o.LookupEnv("CONFIG_API_TOKEN")
	for _, address := range splitList(b.o.MemberURL) {
		c, err := client.New(client.Options{AdminURL: address, Token: token, Timeout: fetchTimeout, UserAgent: "holdfast-observer/" + b.o.Version})
		if err != nil {
			return conf.Errorf(conf.CodeUsage, "CONFIG_MEMBER_URL: %w", err).WithHint("write it as http://host:8081")
		}
		b.fetch.members = append(b.fetch.members, c)
	}
	if url == "" && len(b.fetch.members) == 0 {
		return conf.Errorf(conf.CodeUsage, "an observer needs a broker to follow").WithHint("give it one: --mqtt mqtt://host:1883, or MQTT_URL; or at least a member: --member http://host:8081")
	}
	if url == "" {
		return nil
	}
	config, err := b.o.BrokerTLS()
	if err != nil {
		return err
	}
	filters := []string{broker.EpochTopic}
	for _, s := range b.services {
		filters = append(filters, broker.ConfigPrefix+s)
	}
	if len(filters) > maxFilters {
		filters = []string{broker.EpochTopic, broker.ConfigPrefix + "+"}
	}
	b.link.subscriber, err = broker.NewSubscriber(broker.SubscriberOptions{
		URL: url, TLS: config, Filters: filters, Handle: b.onMessage, OnState: b.onBrokerState, Logger: b.log,
	})
	return err
}

// newLocalAPI makes the server of the local API.
func (b *Observer) newLocalAPI(token string) (err error) {
	list := func() (out []localapi.Key) {
		for _, pub := range b.receiver.Trusted() {
			if k, err := localapi.NewKey(seal.KeyID(pub), pub); err == nil {
				out = append(out, k)
			}
		}
		return out
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{b},
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_log_dropped_total", Help: "Lines of the log that were dropped, because nothing read them."},
			func() float64 { return float64(process.DroppedLines(b.log)) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b.local, err = localapi.New(localapi.Options{
		Service: b.services[0], Source: b.provider, Token: func() string { return token }, Keys: list,
		Health: b.Health, Ready: b.ready, Logger: b.log, Metrics: registry,
	})
	return err
}

// LocalURL is where the local API answers.
func (b *Observer) LocalURL() string { return "http://" + b.localL.Addr().String() }

// Run serves and follows until ctx ends. It returns nil after a clean stop.
func (b *Observer) Run(ctx context.Context) error {
	defer b.closeFiles()
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, 2)
	var servers, parts, writer sync.WaitGroup
	serve := func(l net.Listener) {
		servers.Go(func() {
			if err := b.local.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		})
	}
	serve(b.localL)
	if b.socketL != nil {
		serve(b.socketL)
	}
	writing, stopWriting := context.WithCancel(stop)
	defer stopWriting()
	writer.Go(func() { b.writer.Run(writing) })
	parts.Go(func() { b.provider.Run(stop) })
	parts.Go(func() { b.accepted.runPublish(stop) })
	if b.link.subscriber != nil {
		parts.Go(func() { b.link.subscriber.Run(stop) })
	}
	if len(b.fetch.members) > 0 {
		parts.Go(func() { b.fetch.run(stop) })
	}
	b.log.Info("observing", "services", b.services, "local", b.LocalURL())
	var err error
	select {
	case <-ctx.Done():
		b.log.Info("stopping")
	case err = <-failed:
		b.log.Error("a server failed: stopping", "err", err)
	}
	graceful, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	_ = b.local.Stop(graceful)
	servers.Wait()
	cancel()
	parts.Wait()
	stopWriting()
	writer.Wait()
	if ferr := b.writer.Flush(graceful); ferr != nil {
		b.log.Warn("the last-known-good file was not written at the stop", "err", ferr)
	}
	return err
}

func (b *Observer) closeFiles() {
	for _, l := range []net.Listener{b.localL, b.socketL} {
		if l != nil {
			_ = l.Close()
		}
	}
	if b.lock != nil {
		_ = b.lock.Close()
	}
}

// onMessage handles a message of the broker, on the subscriber's goroutine.
func (b *Observer) onMessage(m broker.Message) {
	if m.Topic == broker.EpochTopic {
		_ = b.accepted.accept(fromBroker, func() []updates.Result { return b.receiver.ReceiveEpochChanges(m.Payload) })
		return
	}
	service, ok := strings.CutPrefix(m.Topic, broker.ConfigPrefix)
	if !ok || !slices.Contains(b.services, service) { // one wildcard for many services
		return
	}
	if len(m.Payload) == 0 { // MQTT's way to delete a retained message; it is not signed
		return
	}
	in := updates.Message{Service: service, Payload: m.Payload, Version: m.Version, Index: m.Index, Deleted: m.Deleted || !m.Described}
	_ = b.accepted.accept(fromBroker, func() []updates.Result { return []updates.Result{b.receiver.Receive(in)} })
}

// onBrokerState handles a change of the connection to the broker, nil for connected.
func (b *Observer) onBrokerState(err error) {
	b.link.set(err)
	signal(b.fetch.wakeFetch)
}

// age is the time since the leader signed what is served; negative: never.
func (b *Observer) age() time.Duration {
	at := b.receiver.Proven()
	if at.IsZero() {
		return -1
	}
	return max(0, time.Since(at))
}

// ready is nil when each service has a record that a leader signed.
func (b *Observer) ready() error {
	snap := b.view.Load()
	var missing []string
	for _, s := range b.services {
		if e, ok := snap.Get(s); !ok || e.Record.Epoch == "" {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if b.link.brokerErr() != nil {
		return conf.Errorf(conf.CodeReadOnly, "nothing was heard yet of %s, and the broker is not connected", strings.Join(missing, ", ")).
			WithHint("check --mqtt and the broker")
	}
	return conf.Errorf(conf.CodeReadOnly, "nothing was heard yet of %s", strings.Join(missing, ", ")).
		WithHint("look at the agent's log and at holdfast_update_refused_total in /metrics: the broker may not have it, or the wrong key is trusted")
}

// Health reports the state of the observer in the form of an agent. It has no database.
func (b *Observer) Health() conf.Health {
	snap, brokerErr, subscriber, file := b.view.Load(), b.link.brokerErr(), b.link.subscriber, b.writer.Status()
	h := conf.Health{
		DatabaseStatus: conf.DatabaseHealthy, OperationalMode: conf.ModeReadOnly, ConfigEpoch: snap.Epoch,
		LKGCacheValid: file.Valid, LitestreamStatus: "disabled",
	}
	event := "following the members"
	if subscriber != nil {
		event = "following " + subscriber.Addr()
	}
	var trouble string
	switch {
	case snap.Source == view.SourceReplica && (brokerErr == nil || subscriber == nil):
		h.OperationalMode = conf.ModeNormal
	case brokerErr != nil && subscriber != nil:
		event, trouble = "not connected to "+subscriber.Addr(), brokerErr.Error()
	default:
		event = "connected, and nothing was heard yet"
	}
	switch {
	case file.Err != nil:
		trouble = process.PublicText(file.Err)
	case b.lkgErr != nil && !file.Valid:
		trouble = process.PublicText(b.lkgErr)
	}
	h.Event = &event
	if trouble != "" {
		h.Err = &trouble
	}
	h.OK = h.OperationalMode == conf.ModeNormal && h.LKGCacheValid
	return h
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
