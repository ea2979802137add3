package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Events of health that only a Publisher sends.
const (
	EventLeaderLost    = "leader lost"    // the Will: the connection ended without DISCONNECT
	EventLeaderStopped = "leader stopped" // a graceful shutdown
)

// PublisherOptions of a Publisher. URL, Source and Leading are required.
type PublisherOptions struct {
	URL    string      // mqtt://user:password@host:1883 or mqtts://...
	TLS    *tls.Config // for mqtts; nil: the roots of the system
	Source Source
	// Leading reports whether this agent leads, and returns a channel that is closed when
	// that may have changed.
	Leading func() (bool, <-chan struct{})
	// ClientID is the same for all agents of a cluster, and different for another cluster:
	// the broker then disconnects a deposed leader. Default "holdfast-leader".
	ClientID    string
	Logger      *slog.Logger
	HealthEvery time.Duration // default 30s
	Timeout     time.Duration // to connect, and for an acknowledgement; default 10s
	MinBackoff  time.Duration // default 200ms
	MaxBackoff  time.Duration // default 10s
}

// PublisherStats are the counters of a Publisher.
type PublisherStats struct {
	Connected bool
	MQTT5     bool
	Pending   int    // messages that are not acknowledged yet
	Published uint64 // messages that are acknowledged
	Refused   uint64 // messages that the broker rejected, or that are too large for it
	Connects  uint64
	Failures  uint64 // connections that failed or broke
}

// Publisher keeps an external broker up to date while its agent leads. Make it with
// NewPublisher, then call Run once.
type Publisher struct {
	connector
	o      PublisherOptions
	cache  *messageCache // of the goroutine of Run
	alarms *alarm.Set    // by topic

	pending             atomic.Int64
	published, rejected atomic.Uint64
}

// NewPublisher checks the options. Its errors do not hold the URL.
func NewPublisher(o PublisherOptions) (*Publisher, error) {
	t, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Source == nil || o.Leading == nil {
		return nil, conf.Errorf(conf.CodeUsage, "the MQTT publisher needs a Source and Leading")
	}
	if o.ClientID == "" {
		o.ClientID = "holdfast-leader"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.HealthEvery, 30*time.Second)
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.MinBackoff, 200*time.Millisecond)
	setDefault(&o.MaxBackoff, 10*time.Second)
	return &Publisher{o: o, alarms: alarm.NewSet(o.Logger.With("broker", t.addr)), connector: connector{
		log: o.Logger.With("broker", t.addr), target: t, config: t.tlsConfig(o.TLS), clientID: o.ClientID, timeout: o.Timeout,
		keepAlive: publisherKeepAlive, limit: publisherPacket,
	}}, nil
}

// Stats returns the counters of the publisher.
func (p *Publisher) Stats() PublisherStats {
	return PublisherStats{
		Connected: p.connected.Load(), MQTT5: p.mqtt5.Load(), Pending: int(p.pending.Load()), Published: p.published.Load(),
		Refused: p.rejected.Load(), Connects: p.connects.Load(), Failures: p.failures.Load(),
	}
}

// errDeposed ends a connection because this agent is no longer the leader, errTakenOver
// because another leader has connected.
var (
	errDeposed   = errors.New("this agent is no longer the leader")
	errTakenOver = errors.New("another leader is connected to the broker now")
)

// Run publishes while this agent leads, until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	attempts := 0
	for ctx.Err() == nil {
		leading, changed := p.o.Leading()
		if !leading {
			p.cache, attempts = nil, 0 // another leader may have started an epoch
			p.alarms.Only("")
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		settled, err := p.publishOnce(ctx)
		if ctx.Err() != nil || errors.Is(err, errDeposed) {
			continue
		}
		p.failures.Add(1)
		if settled {
			attempts = 0
		}
		attempts++
		delay := backoff(attempts, p.o.MinBackoff, p.o.MaxBackoff)
		if errors.Is(err, errTakenOver) {
			delay = max(delay, time.Second) // by then this agent has stepped down
		}
		p.report("not connected to the external MQTT broker", err, delay)
		p.pause(ctx, delay)
	}
}

// pause waits for d, at most until the leadership ends.
func (p *Publisher) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		leading, changed := p.o.Leading()
		if !leading {
			return
		}
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// leaderContext returns ctx, ended also when this agent's leadership ends: a CONNECT of a
// deposed leader would disconnect the new one.
func (p *Publisher) leaderContext(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			leading, changed := p.o.Leading()
			if !leading {
				cancel(errDeposed)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}

// publishOnce connects and publishes until the connection ends. settled reports whether the
// broker had acknowledged the newest message of every topic.
func (p *Publisher) publishOnce(ctx context.Context) (settled bool, err error) {
	if p.cache == nil {
		p.cache = &messageCache{source: p.o.Source, alarms: alarm.NewSet(p.log)}
	}
	will, err := p.will()
	if err != nil {
		return false, err
	}
	leading, done := p.leaderContext(ctx)
	u, err := p.connect(leading, will)
	done()
	if err != nil {
		if errors.Is(context.Cause(leading), errDeposed) {
			err = errDeposed
		}
		return false, err
	}
	defer u.hurryWhen(ctx)()
	p.warned = time.Time{}
	p.pending.Store(int64(len(p.cache.newest)) + 1)
	p.connected.Store(true)
	defer p.connected.Store(false)
	p.log.Info("publishing to the external MQTT broker", "mqtt5", u.v5)
	s := newPublishConn(p, u)
	defer func() { p.pending.Store(0) }()
	err = s.run(ctx)
	return s.caughtUp, err
}

// will is the message that the broker publishes when this leader dies.
func (p *Publisher) will() (*message, error) {
	h, _ := p.o.Source.Health()
	return healthMessage(finalHealth(h, EventLeaderLost))
}

func finalHealth(h conf.Health, event string) conf.Health {
	h.OK, h.OperationalMode, h.Event, h.Err = false, conf.ModeReadOnly, &event, nil // until the next leader says more
	return h
}
