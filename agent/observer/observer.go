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
	"github.com/holdfast-config/holdfast/agent/renderjob"
	"github.com/holdfast-config/holdfast/agent/reporter"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/agent/scrape"
	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/localapi/ofrep"
	"github.com/holdfast-config/holdfast/replication/alarm"
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
	held     *process.Held // while the observer uses its directory
	disk     *process.Writable

	view       *documents.View
	schemas    *schema.Cache
	secrets    *documents.Secrets
	provider   *documents.LocalProvider
	receiver   *updates.Receiver
	learned    *learnedKeys
	writer     *lkg.Writer
	lkgErr     error // why the file was rejected at the start
	schemasErr error // which files of the schema directory are not loaded
	accepted   *acceptedState
	link       *brokerLink
	fetch      *fetcher
	local      *localapi.Server
	beside
	scrape *scrape.Server // nil without CONFIG_METRICS_ADDR
}

// beside are the parts for the service beside the observer.
type beside struct {
	files    *renderjob.Job // nil without CONFIG_RENDER
	reporter *reporter.Reporter
}

// New builds an observer and opens its listeners. When it returns, the local API
// serves the last-known-good file, if there is a valid one.
func New(o options.Options, log *slog.Logger) (*Observer, error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := CheckDir(o); err != nil {
		return nil, err
	}
	held, err := process.Hold(&o, log)
	if err != nil {
		return nil, err
	}
	b, err := NewWith(o, held, log)
	if err != nil {
		held.Close()
	}
	return b, err
}

// NewWith is New with the lock and the ports that the process has, in a directory that
// passes CheckDir. When it fails they stay open, and what serves at them continues.
func NewWith(o options.Options, held *process.Held, log *slog.Logger) (*Observer, error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := held.Err(); err != nil {
		return nil, err
	}
	b := &Observer{o: o, log: log, held: held, disk: process.NewWritable(o.DataDir, log)}
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
	if err := b.load(set, updates.Options{Services: o.Services(), Trust: trust, Accept: o.AcceptEpoch, Now: o.Clock}); err != nil {
		return nil, err
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, b.newLocalAPI(token)
}

// CheckDir rejects the data directory of a member.
func CheckDir(o options.Options) error {
	if !isMemberDir(o) {
		return nil
	}
	return conf.Errorf(conf.CodeUsage, "%s is the directory of a member of a cluster", o.DataDir).
		WithHint("give the observer a directory of its own: CONFIG_DATA_DIR")
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
	switch b.schemasErr = err; {
	case err != nil:
		alarm.SchemasUnread.Report(b.log, "err", err, "hint", conf.HintOf(err))
	case b.o.SchemaDir != "":
		alarm.SchemasUnread.Over(b.log) // the process that raised it may be an earlier one
	}
	b.schemas = schema.NewCache()
	b.secrets = documents.NewSecrets(documents.SecretsOptions{
		Lookup: b.o.LookupEnv, Allowed: b.o.EnvAllowed, Schemas: b.schemas, Sealer: keys.NewSealer(keys.NewHolder(set)), Logger: b.log,
	})
	b.view = documents.NewView(b.secrets)
	b.link = newBrokerLink()
	b.accepted = newAcceptedState(b.view, raw, b.link, b.log)
	loaded, err := lkg.Load(b.o.LKGPath, set.HMAC)
	switch {
	case err == nil:
		ro.Epoch, ro.Past = loaded.Epoch, loaded.PastEpochs
		ro.Records = b.accepted.restore(loaded, b.services)
		b.log.Info("serving the last known good values", "services", len(ro.Records), "epoch", loaded.Epoch, "generated_at", conf.FormatTime(loaded.GeneratedAt))
	case conf.CodeOf(err) == conf.CodeNotFound:
		b.accepted.serveDefaults(b.schemas, b.services)
	default:
		b.lkgErr = err
		b.accepted.serveDefaults(b.schemas, b.services)
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
	source := documents.NewLKGProvider(documents.Whole(b.view), ro.Epoch, ro.Past, func(s *documents.Snapshot) bool { return s.Epoch != "" })
	b.writer = lkg.NewWriter(b.o.LKGPath, set.HMAC, source, b.log, lkg.WriterOptions{Loaded: loaded, Refused: b.lkgErr})
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
	filters := []string{broker.EpochTopic, broker.HealthTopic}
	for _, s := range b.services {
		filters = append(filters, broker.ConfigPrefix+s)
	}
	if len(filters) > maxFilters {
		filters = []string{broker.EpochTopic, broker.HealthTopic, broker.ConfigPrefix + "+"}
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
	b.files = renderjob.New(renderjob.Options{Path: b.o.Render, View: b.view, Secrets: b.secrets, OwnVersions: true, Logger: b.log})
	b.files.Register(registry)
	registry.MustRegister(collector{b},
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_log_dropped_total", Help: "Lines of the log that were dropped, because nothing read them."},
			func() float64 { return float64(process.DroppedLines(b.log)) }),
		&scrape.Vitals{
			Version: b.o.Version, Role: func() string { return options.RoleObserver }, Service: b.services[0],
			LKGWritten: func() time.Time { return b.writer.Status().Written }, Records: documents.Records{View: b.view}.Services,
		},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b.scrape = scrape.New(b.o.MetricsAddr, registry, b.log)
	b.local, err = localapi.New(localapi.Options{
		Service: b.services[0], Source: b.provider, Token: func() string { return token }, Keys: list,
		Health: b.Health, Ready: b.ready, OwnVersions: true, Unheard: func(s string) bool { return slices.Contains(b.services, s) }, Logger: b.log, Metrics: registry,
		Front: b.o.LocalFront == "on",
	})
	if err != nil {
		b.scrape.Close()
		return err
	}
	ofrep.Register(b.local, b.schemas)
	return b.newReporter()
}

// LocalURL is where the local API answers.
func (b *Observer) LocalURL() string { return "http://" + b.held.Local.Addr().String() }

// stopTimeout bounds a graceful shutdown.
const stopTimeout = 5 * time.Second

// Run serves and follows until ctx ends. It returns nil after a clean stop.
func (b *Observer) Run(ctx context.Context) error {
	defer b.held.Close()
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
	serve(b.held.Local)
	if b.held.Socket != nil {
		serve(b.held.Socket)
	}
	writing, stopWriting := context.WithCancel(stop)
	defer stopWriting()
	writer.Go(func() { b.writer.Run(writing) })
	parts.Go(func() { b.provider.Run(stop) })
	parts.Go(func() { b.disk.Run(stop) })
	parts.Go(func() { b.files.Run(stop) })
	parts.Go(func() { b.reporter.Run(stop) })
	parts.Go(func() { b.scrape.Run(stop) })
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
		alarm.ServerFailed.Report(b.log, "err", err)
	}
	graceful, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	var first sync.WaitGroup
	first.Go(func() { _ = b.writer.Flush(graceful) }) // a kill in a moment must not lose it; the flush below reports
	first.Go(func() { _ = b.local.Stop(graceful) })
	first.Wait()
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

// onMessage handles a message of the broker, on the subscriber's goroutine.
func (b *Observer) onMessage(m broker.Message) {
	if m.Topic == broker.EpochTopic {
		_ = b.accepted.accept(fromBroker, func() []updates.Result { return b.receiver.ReceiveEpochChanges(m.Payload) })
		return
	}
	if m.Topic == broker.HealthTopic {
		b.link.setHealth(m.Payload)
		return
	}
	service, ok := strings.CutPrefix(m.Topic, broker.ConfigPrefix)
	if !ok || !slices.Contains(b.services, service) { // one wildcard for many services
		return
	}
	if len(m.Payload) == 0 { // MQTT's way to delete a retained message; it is not signed
		return
	}
	in := updates.Message{Service: service, Payload: m.Payload, Version: m.Version, Index: m.Index, Deleted: m.Deleted || !m.Described, VersionSignature: m.VersionSignature, Channel: m.Channel}
	_ = b.accepted.accept(fromBroker, func() []updates.Result { return []updates.Result{b.receiver.Receive(in)} })
}

// onBrokerState handles a change of the connection to the broker, nil for connected.
func (b *Observer) onBrokerState(err error) {
	b.link.set(err)
	signal(b.fetch.wakeFetch)
}

// age is the time since the leader signed what is served; negative: never.
func (b *Observer) age() time.Duration { return b.receiver.Age() }

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
		DatabaseStatus: conf.DatabaseHealthy, ConfigEpoch: snap.Epoch,
		LKGCacheValid: file.Valid, LitestreamStatus: "disabled",
	}
	event := "following the members"
	if subscriber != nil {
		event = "following " + subscriber.Addr()
	}
	var trouble string
	standing := conf.Standing{Able: conf.ModeReadOnly, Leader: true}
	switch noLeader := b.leaderError(); {
	case snap.Source == view.SourceReplica && (brokerErr == nil || subscriber == nil):
		standing.Able, standing.Leader = conf.ModeNormal, noLeader == nil
		if noLeader != nil {
			trouble = noLeader.Error()
		}
	case brokerErr != nil && subscriber != nil:
		event, trouble = "not connected to "+subscriber.Addr(), brokerErr.Error()
	default:
		event = "connected, and nothing was heard yet"
	}
	switch {
	case b.disk.Err() != nil:
		trouble = process.PublicText(b.disk.Err())
	case file.Err != nil:
		trouble = process.PublicText(file.Err)
	case b.lkgErr != nil && !file.Valid:
		trouble = process.PublicText(b.lkgErr)
	}
	if ahead := b.receiver.Ahead(); trouble == "" && ahead > conf.MaxLead {
		trouble = "what the leader signed is dated " + ahead.Round(time.Second).String() + " ahead of the clock of this agent: set the one that is wrong"
	}
	env := documents.EnvError(b.secrets.EnvProblems(snap))
	if env != nil && trouble == "" {
		trouble = env.Error()
	}
	h.Event = &event
	if trouble != "" {
		h.Err = &trouble
	}
	if standing.Faults = []error{b.disk.Err(), b.schemasErr, env}; b.schemasErr != nil && h.Err == nil {
		text := process.PublicText(b.schemasErr)
		h.Err = &text
	}
	if err := b.files.Err(); err != nil && h.Err == nil {
		text := process.PublicText(err)
		h.Err = &text
	}
	standing.Judge(&h)
	return h
}

// memberSilence is how long an observer without a broker may hear from no member: it asks
// each fetchRetry, and a member that is gone takes fetchTimeout.
const memberSilence = 2*fetchTimeout + fetchRetry + brokerGrace

// leaderError is why this observer knows of no leader. A broker repeats the health of
// what publishes to it; that is not signed, and only ever makes the observer say less
// of itself. A signature that is not renewed says the same, later.
func (b *Observer) leaderError() error {
	switch {
	case b.link.leaderLost():
		return conf.Errorf(conf.CodeNoQuorum, "the broker says that the cluster has no leader")
	case b.link.subscriber == nil && time.Since(b.fetch.answeredAt()) > memberSilence:
		return conf.Errorf(conf.CodeNoQuorum, "no member answers")
	case b.o.MQTTReissue > 0 && b.age() > max(maxSilence, 2*b.o.MQTTReissue):
		return conf.Errorf(conf.CodeNoQuorum, "no leader has renewed the signatures for longer than CONFIG_MQTT_REISSUE allows")
	default:
		return nil
	}
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
