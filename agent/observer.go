package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/observe"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Observer is an agent that is no member of the cluster. It follows the signed
// updates of its services over MQTT, believes only what it can prove, keeps it in
// a last-known-good file, and serves the same local API. Make it with NewObserver,
// then call Run once.
type Observer struct {
	o        Options
	log      *slog.Logger
	services []string
	schemas  map[string][]byte // of the schema directory: which secrets come from the environment
	lock     *os.File

	view       *liveView
	source     *source
	receiver   *observe.Receiver
	writer     *lkg.Writer
	subscriber *broker.Subscriber // nil without a broker
	members    []member
	learned    *learnedKeys
	local      *localapi.Server
	localL     net.Listener
	socketL    net.Listener

	// take holds it while a message is judged: what two sources bring must be shown in
	// the order in which it was judged.
	mu     sync.Mutex
	index  uint64                  // counts what was shown; the file's index too
	held   map[string]*conf.Record // the newest of each service, shown or about to be
	fresh  map[string]*conf.Record // of held: not shown yet
	epoch  string                  // of what was accepted last
	ready  chan struct{}           // capacity 1: there is something to show
	cold   map[string]bool         // served from the file, and not heard of since the start
	heard  map[string]time.Time    // when the newest of a service was last proven over this connection
	gaps   map[string]bool         // ask a member now
	link   error                   // why there is no connection; nil when there is one
	turned time.Time               // since when that is so
	warned map[observe.Reason]time.Time
	lkgErr error         // why the file was refused at the start
	nudge  chan struct{} // capacity 1: look whether to ask a member
	asked  map[string]uint64

	unproven atomic.Bool // an update came that no trusted key signed
}

// NewObserver builds an observer and opens its listeners. When it returns, the
// local API answers from the last-known-good file, if there is a good one.
func NewObserver(o Options, log *slog.Logger) (_ *Observer, err error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	b := &Observer{
		o: o, log: log, held: map[string]*conf.Record{}, fresh: map[string]*conf.Record{}, ready: make(chan struct{}, 1), cold: map[string]bool{}, heard: map[string]time.Time{}, gaps: map[string]bool{}, link: errNotYet, turned: time.Now(),
		warned: map[observe.Reason]time.Time{}, asked: map[string]uint64{}, nudge: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			b.closeFiles()
		}
	}()
	if (&supervisor{o: o}).traces().raft {
		return nil, conf.Errorf(conf.CodeUsage, "%s is the directory of a member of a cluster", o.DataDir).
			WithHint("give the observer a directory of its own: CONFIG_DATA_DIR")
	}
	if b.lock, err = lockDir(o.DataDir); err != nil {
		return nil, err
	}
	if b.localL, err = bind("tcp", o.LocalAddr, "CONFIG_LOCAL_ADDR"); err != nil {
		return nil, err
	}
	if b.socketL, err = listenSocket(o.LocalSocket, log); err != nil {
		return nil, err
	}
	trust, err := trusted(o)
	if err != nil {
		return nil, err
	}
	set, generated, err := keys.Load(withPublic(o.Env, trust[0]), o.EnvFile, keys.Options{Role: conf.MemberSidecar})
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
	if err := b.build(set, observe.Options{Services: ownServices(o), Trust: trust, Accept: o.AcceptEpoch}); err != nil {
		return nil, err
	}
	if err := b.sources(); err != nil {
		return nil, err
	}
	return b, b.serve(token)
}

var errNotYet = errors.New("not connected yet")

// build fills the view from the last-known-good file, and makes what judges.
func (b *Observer) build(set keys.Set, ro observe.Options) (err error) {
	if b.services = ro.Services; len(b.services) == 0 {
		return conf.Errorf(conf.CodeUsage, "an observer follows services, and was told none").WithHint("name them: --service NAME, or CONFIG_SERVICE_NAME")
	}
	if b.schemas, err = canonicalSchemas(b.o.SchemaDir); err != nil {
		return err
	}
	cache := schema.NewCache()
	known := secrets{environment{lookup: b.o.LookupEnv, schemas: cache, warn: b.log.Warn}, keys.NewVault(keys.NewRing(set)), b.log, "", &lostSecrets{}}
	b.view = view.New((&localapi.Renderer{Secrets: known.of}).Render)
	loaded, err := lkg.Load(b.o.LKGPath, set.HMAC)
	switch {
	case err == nil:
		ro.Epoch, ro.Past = loaded.Epoch, loaded.Past
		for _, rec := range loaded.Records {
			for _, s := range b.services {
				if rec.Service == s && rec.Version > 0 {
					rec.Schema = b.schemas[s]
					ro.Records = append(ro.Records, rec)
					b.held[s] = rec
					b.cold[s] = true
				}
			}
		}
		b.index, b.epoch = loaded.Index, loaded.Epoch
		b.view.Reset(view.SourceLKG, loaded.Epoch, loaded.Index, ro.Records)
		b.log.Info("serving the last known good values", "services", len(ro.Records), "epoch", loaded.Epoch, "generated_at", conf.FormatTime(loaded.GeneratedAt))
	case conf.CodeOf(err) == conf.CodeNotFound:
		b.defaults(cache)
	default:
		b.lkgErr = err
		b.log.Error("the last-known-good file is refused; a fresh one is written with the next update", "path", b.o.LKGPath, "err", err)
		b.defaults(cache)
	}
	b.learned = &learnedKeys{path: b.o.learnedFile(), macs: set.HMACKeys(set.HMACID)}
	if ro.Learned, err = b.learned.load(); err != nil {
		b.log.Warn("the keys that were learned from members are not believed: they are learned anew", "path", b.learned.path, "err", err)
	}
	if b.receiver, err = observe.New(ro); err != nil {
		return err
	}
	b.recallKeys(ro.Learned)
	b.source = &source{v: b.view, age: b.age}
	b.source.refresh()
	g := &good{v: b.view, epoch: ro.Epoch, past: ro.Past, proven: func(s *snapshot) bool { return s.Epoch != "" }}
	b.writer = lkg.NewWriter(b.o.LKGPath, set.HMAC, g, b.log, lkg.WriterOptions{Loaded: loaded})
	return nil
}

// defaults are what the schema directory has: the last thing to serve.
func (b *Observer) defaults(cache *schema.Cache) {
	var recs []*conf.Record
	for _, s := range b.services {
		raw := b.schemas[s]
		if raw == nil {
			continue
		}
		if r, err := defaultRecord(cache, s, raw); err == nil {
			recs = append(recs, r)
			b.cold[s] = true
		}
	}
	if len(recs) > 0 {
		b.log.Warn("serving the schemas' defaults until the first update comes", "services", len(recs))
		b.view.Reset(view.SourceDefault, "", 0, recs)
	}
}

// mostFilters is how many subscriptions an embedded broker grants to one client.
const mostFilters = 32

// sources makes what brings updates.
func (b *Observer) sources() error {
	url := b.o.Observe
	if url == "" {
		url = b.o.MQTTURL
	}
	token, _ := b.o.LookupEnv("CONFIG_API_TOKEN")
	for _, address := range split(b.o.MemberURL) {
		c, err := client.New(client.Options{AdminURL: address, Token: token, Timeout: askTimeout, UserAgent: "holdfast-observer/" + b.o.Version})
		if err != nil {
			return conf.Errorf(conf.CodeUsage, "CONFIG_MEMBER_URL: %w", err).WithHint("write it as http://host:8081")
		}
		b.members = append(b.members, c)
	}
	if url == "" && len(b.members) == 0 {
		return conf.Errorf(conf.CodeUsage, "an observer needs a broker to follow").WithHint("give it one: --mqtt mqtt://host:1883, or MQTT_URL; or at least a member: --member http://host:8081")
	}
	if url == "" {
		return nil
	}
	config, err := brokerTLS(b.o.MQTTCA)
	if err != nil {
		return err
	}
	filters := []string{broker.EpochTopic}
	for _, s := range b.services {
		filters = append(filters, broker.ConfigPrefix+s)
	}
	if len(filters) > mostFilters {
		filters = []string{broker.EpochTopic, broker.ConfigPrefix + "+"}
	}
	b.subscriber, err = broker.NewSubscriber(broker.SubscriberOptions{
		URL: url, TLS: config, Filters: filters, Handle: b.message, Turned: b.linked, Logger: b.log,
	})
	return err
}

// serve makes the local API.
func (b *Observer) serve(token string) error {
	list := func() (out []localapi.Key) {
		for _, pub := range b.receiver.Trusted() {
			if k, err := localapi.NewKey(seal.KeyID(pub), pub); err == nil {
				out = append(out, k)
			}
		}
		return out
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(newObserverMetrics(b), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	b.local, err = localapi.New(localapi.Options{
		Service: b.services[0], Source: b.source, Token: func() string { return token }, Keys: list,
		Health: b.Health, Ready: b.serving, Logger: b.log, Metrics: registry,
	})
	return err
}

// LocalURL is where the local API answers.
func (b *Observer) LocalURL() string { return "http://" + b.localL.Addr().String() }

// Run serves and follows until ctx ends. It returns nil after an orderly stop.
func (b *Observer) Run(ctx context.Context) error {
	defer b.closeFiles()
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, 2)
	var servers, state, writer sync.WaitGroup
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
	state.Go(func() { b.source.run(stop) })
	state.Go(func() { b.showAll(stop) })
	if b.subscriber != nil {
		state.Go(func() { b.subscriber.Run(stop) })
	}
	if len(b.members) > 0 {
		state.Go(func() { b.askMembers(stop) })
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
	state.Wait()
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

// message takes what the broker sends.
func (b *Observer) message(m broker.Message) {
	if m.Topic == broker.EpochTopic {
		b.take(func() []observe.Verdict { return b.receiver.OfferChanges(m.Payload) }, "broker")
		return
	}
	service, ok := strings.CutPrefix(m.Topic, broker.ConfigPrefix)
	if !ok || !slices.Contains(b.services, service) { // one wildcard for many services
		return
	}
	if len(m.Payload) == 0 { // MQTT's way to take a retained message away; nobody signed it
		return
	}
	in := observe.Message{Service: service, Payload: m.Payload, Version: m.Version, Index: m.Index, Deleted: m.Deleted || !m.Described}
	b.take(func() []observe.Verdict { return []observe.Verdict{b.receiver.Offer(in)} }, "broker")
}

// take judges something and shows what it changes. It returns the first refusal.
func (b *Observer) take(judge func() []observe.Verdict, from string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var first error
	for _, v := range judge() {
		if v.Err != nil {
			b.warn(v, from)
			if v.Reason == observe.ReasonSignature {
				b.unproven.Store(true)
				signal(b.nudge)
			}
			if first == nil {
				first = v.Err
			}
			continue
		}
		if v.Heard == "" {
			continue
		}
		delete(b.cold, v.Heard)
		if from == "broker" {
			b.heard[v.Heard] = time.Now()
		}
		if v.Record != nil {
			v.Record.Schema = b.schemas[v.Heard]
			b.held[v.Heard], b.fresh[v.Heard], b.epoch = v.Record, v.Record, v.Record.Epoch
		}
		if v.Gap && from == "broker" {
			b.gaps[v.Heard] = true
			signal(b.nudge)
		}
	}
	if len(b.fresh) > 0 || len(b.cold) == 0 && b.view.Load().Source != view.SourceReplica {
		signal(b.ready)
	}
	return first
}

// showAll shows what take has accepted, until ctx ends. It alone writes to the view.
func (b *Observer) showAll(ctx context.Context) {
	for {
		select {
		case <-b.ready:
			b.show(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// keepTimeout is how long the disk may hold up an update.
const keepTimeout = 2 * time.Second

// show makes the newest durable, then visible: what a service has read, an observer
// that was killed knows at its next start. A disk that does not take it does not
// keep an update from the service.
func (b *Observer) show(ctx context.Context) {
	b.mu.Lock()
	recs := slices.Collect(maps.Values(b.fresh))
	clear(b.fresh)
	live := len(b.cold) == 0 && b.epoch != ""
	if len(recs) > 0 {
		b.index++
	}
	c := &lkg.Content{
		Epoch: b.epoch, GeneratedAt: time.Now(), Index: b.index, Past: b.receiver.Past(), Records: slices.Collect(maps.Values(b.held)),
	}
	b.mu.Unlock()
	if len(recs) > 0 {
		keeping, cancel := context.WithTimeout(ctx, keepTimeout)
		err := b.writer.Save(keeping, c)
		cancel()
		if err != nil && ctx.Err() == nil {
			b.log.Error("an update is shown that the last-known-good file does not have", "err", err, "hint", conf.HintOf(err))
		}
		b.view.Advance(c.Index, recs)
	}
	if live && b.view.Load().Source != view.SourceReplica {
		b.view.Reset(view.SourceReplica, c.Epoch, c.Index, nil)
	}
}

// warn tells of a refusal, of each reason once a minute.
func (b *Observer) warn(v observe.Verdict, from string) {
	if now := time.Now(); now.Sub(b.warned[v.Reason]) > time.Minute {
		b.warned[v.Reason] = now
		b.log.Warn("an update is refused", "reason", v.Reason, "from", from, "err", v.Err, "hint", conf.HintOf(v.Err))
	}
}

// linked is told whether the broker is followed.
func (b *Observer) linked(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if (err == nil) != (b.link == nil) {
		b.turned = time.Now()
	}
	if err != nil { // not when it comes: retained messages may come before its word
		clear(b.heard)
	}
	b.link = err
	signal(b.nudge)
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
