package broker

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Options of a Broker. Addr and Source are required.
type Options struct {
	Addr           string      // host:port
	TLS            *tls.Config // nil: plain TCP
	User, Password string      // both empty: no credentials are required
	Source         Source
	Logger         *slog.Logger
	HealthEvery    time.Duration // interval of health without a transition, default 30s
	Limits         Limits
	OnFull         func() // called for each connection over Limits.Connections; may be nil
}

// Limits bound what clients can use. Zero fields get their defaults.
type Limits struct {
	Connections int           // open at a time, default 2048
	PerIP       int           // of them from one address, default 1536
	Packet      int           // bytes of one packet from a client, default 16 KiB
	Filters     int           // subscriptions of one client, default 32
	Window      int           // QoS 1 messages in flight to one client, default 64
	Connect     time.Duration // until CONNECT is complete, including TLS, default 5s
	Write       time.Duration // until a client has read a write, default 20s
	Ack         time.Duration // until a client with a full window acknowledges a message, default 60s
}

func (l *Limits) complete() {
	setDefault(&l.Connections, 2048)
	setDefault(&l.PerIP, 1536)
	setDefault(&l.Packet, 16<<10)
	setDefault(&l.Filters, 32)
	setDefault(&l.Window, 64)
	setDefault(&l.Connect, 5*time.Second)
	setDefault(&l.Write, 20*time.Second)
	setDefault(&l.Ack, time.Minute)
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Broker is the MQTT broker of one agent. Make it with New, then call Run once.
type Broker struct {
	o        Options
	log      *slog.Logger
	listener net.Listener
	server   *mochi.Server
	counters *counters
	cache    *messageCache // of the goroutine of New, then of publishLoop
	ids      atomic.Uint64

	mu       sync.RWMutex
	retained map[string]*message
	conns    map[*conn]struct{}
	topics   topicIndex
	perIP    map[string]int
	stopping bool

	work    sync.WaitGroup // goroutines of connections
	cancel  context.CancelFunc
	stopped chan struct{} // closed when Run has returned
}

// New fills the broker from its source and binds its address. Run serves clients.
func New(o Options) (*Broker, error) {
	if o.Source == nil {
		return nil, conf.Errorf(conf.CodeUsage, "the MQTT broker has no source")
	}
	if (o.User == "") != (o.Password == "") {
		return nil, conf.Errorf(conf.CodeUsage, "the MQTT broker needs both a user and a password, or neither").
			WithHint("set both or none of them")
	}
	o.Limits.complete()
	setDefault(&o.HealthEvery, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		o: o, log: o.Logger, counters: newCounters(), cache: &messageCache{source: o.Source, alarms: alarm.NewSet(o.Logger)}, retained: make(map[string]*message),
		conns: make(map[*conn]struct{}), topics: newTopicIndex(), perIP: make(map[string]int),
		stopped: make(chan struct{}),
	}
	if err := b.newServer(); err != nil {
		return nil, err
	}
	b.syncServices()
	b.syncHealth(false)
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "cannot listen on %s for MQTT: %w", o.Addr, err).
			WithHint("stop the process that uses it, or set CONFIG_MQTT_ADDR")
	}
	b.listener = l
	return b, nil
}

// newServer makes mochi's server. Its Serve is never called: connections come from our own
// listener, and its event loop would only publish $SYS and expire messages.
func (b *Broker) newServer() error {
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumPacketSize = uint32(b.o.Limits.Packet)
	caps.MaximumMessageExpiryInterval = 0 // the default deletes retained messages after a day
	caps.MaximumSessionExpiryInterval = 0
	caps.MaximumClientWritesPending = 1 // mochi does not deliver; its default is 64 KiB per connection
	caps.TopicAliasMaximum = 0
	caps.SharedSubAvailable = 0
	caps.MaximumQos = 1
	caps.MinimumProtocolVersion = 4
	b.server = mochi.New(&mochi.Options{
		Capabilities: caps, SysTopicResendInterval: 3600,
		// mochi logs whole packets, with the password of a CONNECT.
		Logger: slog.New(slog.DiscardHandler),
	})
	return b.server.AddHook(&policy{b: b}, nil)
}

// Addr returns the address on which the broker listens.
func (b *Broker) Addr() net.Addr { return b.listener.Addr() }

// Stats returns the counters of the broker.
func (b *Broker) Stats() Stats {
	s := b.counters.stats()
	b.mu.RLock()
	defer b.mu.RUnlock()
	s.Connections = len(b.conns)
	return s
}

// Run serves until ctx ends, Stop is called, or the listener fails. It returns nil after a
// graceful shutdown.
func (b *Broker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	if b.stopping {
		b.mu.Unlock()
		return nil
	}
	b.cancel = cancel
	b.mu.Unlock()
	defer close(b.stopped)

	b.syncServices() // changes since New
	b.syncHealth(false)
	var all sync.WaitGroup
	all.Go(func() { b.publishLoop(ctx) })
	failed := make(chan error, 1)
	all.Go(func() { failed <- b.accept(ctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	b.shutdown()
	all.Wait()
	return err
}

// Stop ends Run, and returns when it has ended or with ctx's error. It sends DISCONNECT to
// the clients that read.
func (b *Broker) Stop(ctx context.Context) error {
	b.mu.Lock()
	b.stopping = true
	cancel := b.cancel
	b.mu.Unlock()
	if cancel == nil {
		return b.listener.Close()
	}
	cancel()
	select {
	case <-b.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Broker) shutdown() {
	b.mu.Lock()
	b.stopping = true
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	_ = b.listener.Close()
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(c.disconnect)
	}
	all.Wait()
	b.work.Wait()
	_ = b.server.Close()
}

// publishLoop is the one goroutine that publishes. It waits for a newer state, loads the
// newest, and never waits for a client.
func (b *Broker) publishLoop(ctx context.Context) {
	tick := time.NewTicker(b.o.HealthEvery)
	defer tick.Stop()
	services, health := b.syncServices(), b.syncHealth(false)
	for {
		select {
		case <-ctx.Done():
			return
		case <-services:
			services = b.syncServices()
		case <-health:
			health = b.syncHealth(false)
		case <-tick.C:
			health = b.syncHealth(true)
		}
	}
}

func (b *Broker) syncServices() <-chan struct{} {
	d := b.cache.sync()
	for _, m := range d.changed {
		b.publish(m)
	}
	if len(d.gone) > 0 {
		b.mu.Lock()
		for _, topic := range d.gone {
			delete(b.retained, topic)
		}
		b.mu.Unlock()
	}
	return d.next
}

func (b *Broker) syncHealth(repeat bool) <-chan struct{} {
	m, next := b.cache.syncHealth(repeat)
	if m != nil {
		b.publish(m)
	}
	return next
}

// publish retains m, then queues it for each subscriber. The order matters: a client that
// subscribes in between gets m from retained.
func (b *Broker) publish(m *message) {
	b.mu.Lock()
	b.retained[m.topic] = m
	b.mu.Unlock()
	b.counters.published.Add(1)
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.topics.publish(m)
}

// subscribe queues the retained messages for c, and from now on the published ones.
func (b *Broker) subscribe(c *conn, granted []packets.Subscription) {
	b.mu.Lock()
	if _, open := b.conns[c]; open {
		b.topics.add(c, granted)
	}
	b.mu.Unlock()
	b.mu.RLock()
	defer b.mu.RUnlock()
	c.queue.subscribe(granted, b.retained)
}

// unsubscribe removes filters. A client that subscribes to thousands of topics, one after
// the other, must not stay listed under all of them.
func (b *Broker) unsubscribe(c *conn, filters []packets.Subscription) {
	b.mu.Lock()
	b.topics.remove(c, filters)
	b.mu.Unlock()
	c.queue.unsubscribe(filters)
}
