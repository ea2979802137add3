package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// lead is who leads, as a test sets it.
type lead struct {
	mu      sync.Mutex
	yes     bool
	changed chan struct{}
}

func leads(yes bool) *lead { return &lead{yes: yes, changed: make(chan struct{})} }

func (l *lead) get() (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.yes, l.changed
}

func (l *lead) set(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.yes = yes
	close(l.changed)
	l.changed = make(chan struct{})
}

// publish runs a publisher until the test ends or stop is called.
func publish(t testing.TB, o PublisherOptions) (p *Publisher, stop func()) {
	t.Helper()
	setDefault(&o.MinBackoff, 10*time.Millisecond)
	setDefault(&o.MaxBackoff, 100*time.Millisecond)
	setDefault(&o.Timeout, 30*time.Second) // a machine that stalls must not cost a connection
	if o.Leading == nil {
		o.Leading = leads(true).get
	}
	p, err := NewPublisher(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	stop = func() {
		cancel()
		run.Wait()
	}
	t.Cleanup(stop)
	return p, stop
}

// settled waits until the outside broker has acknowledged everything.
func settled(t testing.TB, p *Publisher, published uint64) {
	t.Helper()
	await(t, fmt.Sprintf("all is acknowledged, at least %d", published), func() bool {
		s := p.Stats()
		return s.Connected && s.Pending == 0 && s.Published >= published
	})
}

func eventOf(t testing.TB, pk packets.Packet) string {
	t.Helper()
	var h conf.Health
	if err := json.Unmarshal(pk.Payload, &h); err != nil {
		t.Fatalf("health %s: %v", pk.Payload, err)
	}
	if h.Event == nil {
		return ""
	}
	if strings.HasPrefix(*h.Event, "leader ") && h.OK {
		t.Fatalf("health says ok: %s", pk.Payload)
	}
	return *h.Event
}

func TestHealthGoesOutside(t *testing.T) {
	s := newBadBroker(t, nil)
	src := newSource()
	publish(t, PublisherOptions{URL: s.url("mqtt"), Source: src, HealthEvery: 20 * time.Millisecond})
	s.awaitPublish(func(pk packets.Packet) bool { return pk.TopicName == HealthTopic })
	n := s.count(HealthTopic)
	await(t, "health is repeated", func() bool { return s.count(HealthTopic) > n+2 })
	src.setHealth("s3 is gone")
	s.awaitPublish(func(pk packets.Packet) bool { return bytes.Contains(pk.Payload, []byte("s3 is gone")) })
}

func TestFallsBackTo311(t *testing.T) {
	for name, answer := range map[string][]byte{
		"refused as 3.1.1 does": {0x20, 2, 0, 1},
		"refused as 5 does":     {0x20, 3, 0, packets.ErrUnsupportedProtocolVersion.Code, 0},
		"closed":                nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := newBadBroker(t, func(s *badBroker) { s.only311, s.answer5 = true, answer })
			src := newSource(record("a", testEpoch, 1, false))
			p, _ := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: src})
			settled(t, p, 2)
			if p.Stats().MQTT5 {
				t.Fatal("claims MQTT 5")
			}
			pk := s.awaitPublish(func(pk packets.Packet) bool { return pk.TopicName == "system/config/a" })
			if string(pk.Payload) != src.newest(t)["system/config/a"] || !pk.FixedHeader.Retain || pk.FixedHeader.Qos != 1 {
				t.Fatalf("got %+v", pk)
			}
		})
	}
}

func TestWindowOfTheBroker(t *testing.T) {
	s := newBadBroker(t, func(s *badBroker) { s.receiveMaximum = 3 })
	src := newSource()
	for i := range 300 {
		src.set(record(fmt.Sprintf("s%d", i), testEpoch, 1, false))
	}
	p, _ := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: src})
	settled(t, p, 301)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mostOpen > 3 || s.mostOpen < 2 {
		t.Fatalf("%d publishes were on their way", s.mostOpen)
	}
}

// TestLoadsOnlyWhatChanged holds that acknowledgements cost no look at the source:
// with many services that would be the square of their number.
func TestLoadsOnlyWhatChanged(t *testing.T) {
	s := newBadBroker(t, nil)
	src := newSource()
	for i := range 500 {
		src.set(record(fmt.Sprintf("s%d", i), testEpoch, 1, false))
	}
	src.mu.Lock()
	before := src.loads
	src.mu.Unlock()
	p, _ := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: src})
	settled(t, p, 501)
	src.mu.Lock()
	defer src.mu.Unlock()
	if n := src.loads - before; n > 3 {
		t.Fatalf("the source was read %d times", n)
	}
}

func TestRefusedMessageIsTriedAgain(t *testing.T) {
	s, log := newBadBroker(t, func(s *badBroker) { s.refuse = 2 }), &keptLog{}
	p, _ := publish(t, PublisherOptions{
		Logger: log.logger(),
		URL:    s.url("mqtt"), Source: newSource(record("a", testEpoch, 1, false)), HealthEvery: 20 * time.Millisecond,
	})
	await(t, "published in the end", func() bool { return p.Stats().Refused >= 2 && s.accepted("system/config/a") })
	if n := p.Stats().Connects; n != 1 {
		t.Fatalf("%d connections", n)
	}
	await(t, "the end of the alarm", func() bool { return log.count(alarm.MessageRejected.End) == 1 })
	if n := log.count(alarm.MessageRejected.Text); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestMessageTooLargeForTheBroker(t *testing.T) {
	s := newBadBroker(t, func(s *badBroker) { s.maxPacket = 2000 })
	big := signed("big", testEpoch, 1, []byte(`{"x":"`+strings.Repeat("y", 4000)+`"}`), false)
	src, log := newSource(big, record("a", testEpoch, 1, false)), &keptLog{}
	p, _ := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: src, Logger: log.logger()})
	settled(t, p, 2)
	if s := p.Stats(); s.Refused != 1 || s.Connects != 1 {
		t.Fatalf("%+v", s)
	}
	src.set(record("big", testEpoch, 2, false))
	await(t, "the end of the alarm", func() bool { return log.count(alarm.MessageTooLarge.End) == 1 })
	if n := log.count(alarm.MessageTooLarge.Text); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// A record that cannot be encoded is an alarm until it can.
func TestAlarmOfWhatCannotBeEncoded(t *testing.T) {
	good := record("a", testEpoch, 1, false)
	bad := *good
	bad.Config = []byte("{")
	src, log := newSource(&bad), &keptLog{}
	f := &messageCache{source: src, alarms: alarm.NewSet(log.logger())}
	f.sync()
	f.sync()
	src.set(record("a", testEpoch, 2, false))
	f.sync()
	if log.count(alarm.NotEncoded.Text) != 1 || log.count(alarm.NotEncoded.End) != 1 {
		t.Errorf("log: %s", log)
	}
}

// keptLog keeps what is logged.
type keptLog struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *keptLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *keptLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

func (l *keptLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *keptLog) count(text string) int { return strings.Count(l.String(), text) }

func TestSilentBrokerIsLeft(t *testing.T) {
	t.Run("no PUBACK", func(t *testing.T) {
		s := newBadBroker(t, func(s *badBroker) { s.mute = true })
		p, _ := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: newSource(), Timeout: 100 * time.Millisecond})
		await(t, "it tries again", func() bool { return p.Stats().Connects > 2 })
	})
	t.Run("no CONNACK", func(t *testing.T) {
		s := newBadBroker(t, func(s *badBroker) { s.deaf = true })
		p, stop := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: newSource(), Timeout: 50 * time.Millisecond})
		await(t, "it tries again", func() bool { return p.Stats().Failures > 2 })
		stop()
		if p.Stats().Connects != 0 {
			t.Fatal("counted as connected")
		}
	})
}

func TestMalformedAnswers(t *testing.T) {
	for _, answer := range [][]byte{
		{0x20}, {0x20, 0}, {0x20, 1, 0}, {0x20, 4, 0, 0, 9, 0x26}, {0x20, 0xff, 0xff, 0xff, 0x7f}, {0x30, 2, 0, 0}, {0xff, 0xff}, {0x20, 3, 0, 0x97, 0},
	} {
		s := newBadBroker(t, func(s *badBroker) { s.raw = answer })
		p, stop := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: newSource(), Timeout: 100 * time.Millisecond})
		await(t, "it fails", func() bool { return p.Stats().Failures > 0 })
		stop()
		if p.Stats().Connects != 0 {
			t.Fatalf("%x counts as a connection", answer)
		}
	}
}

func TestPublisherCredentials(t *testing.T) {
	s := newBadBroker(t, func(s *badBroker) { s.user, s.password = "leader", "p@ss:w/rd" })
	var log lines
	src := newSource(record("a", testEpoch, 1, false))
	p, _ := publish(t, PublisherOptions{URL: "mqtt://leader:p%40ss%3Aw%2Frd@" + s.addr().String(), Source: src, Logger: log.logger()})
	settled(t, p, 2)
	bad, _ := publish(t, PublisherOptions{URL: "mqtt://leader:wr0ng-one@" + s.addr().String(), Source: src, Logger: log.logger()})
	await(t, "refused", func() bool { return bad.Stats().Failures > 1 })
	if text := log.String(); strings.Contains(text, "wr0ng") || strings.Contains(text, "p@ss") || strings.Contains(text, "p%40") ||
		!strings.Contains(text, "refuses this user or password") {
		t.Fatalf("log:\n%s", text)
	}
}

func TestPublisherTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	s := newBadBroker(t, func(s *badBroker) { s.config = &tls.Config{Certificates: []tls.Certificate{cert}} })
	src := newSource(record("a", testEpoch, 1, false))
	p, _ := publish(t, PublisherOptions{URL: s.url("mqtts"), Source: src, TLS: &tls.Config{RootCAs: pool}})
	settled(t, p, 2)
	strange, _ := publish(t, PublisherOptions{URL: s.url("mqtts"), Source: src})
	await(t, "a certificate that nobody vouches for is refused", func() bool { return strange.Stats().Failures > 1 })
	if strange.Stats().Connects != 0 {
		t.Fatal("connected")
	}
}

func TestDoesNotConnectUnlessLeading(t *testing.T) {
	s := newBadBroker(t, nil)
	l := leads(false)
	p, _ := publish(t, PublisherOptions{URL: s.url("mqtt"), Source: newSource(), Leading: l.get})
	for range 10 {
		l.set(false)
	}
	l.set(true)
	settled(t, p, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connects != 1 {
		t.Fatalf("%d connections", s.connects)
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"mqtt://user:password@localhost:1883": "localhost:1883 false user password",
		"mqtt://localhost":                    "localhost:1883 false",
		"mqtts://u@example.org":               "example.org:8883 true u",
		"mqtt://u:p%40s@[::1]:77/":            "[::1]:77 false u p@s",
	} {
		x, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		got := fmt.Sprintf("%s %v", x.addr, x.tls)
		for _, s := range []*string{x.user, x.password} {
			if s != nil {
				got += " " + *s
			}
		}
		if got != want {
			t.Errorf("%s: %s", raw, got)
		}
	}
	for _, raw := range []string{
		"", "localhost:1883", "http://u:s3cret@h", "mqtt://u:s3cret@", "mqtt://u:s3cret@h/path", "mqtt://u:s3cret@h?x=1",
		"mqtt://u:s3/cret@h", "mqtt://u:s3cret%zz@h", "mqtt://u:s3cret@h:port", "mqtt://u:s3#cret@h:1", "://s3cret",
	} {
		_, err := NewPublisher(PublisherOptions{URL: raw, Source: newSource(), Leading: leads(true).get})
		if conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%q: %v", raw, err)
		} else if strings.Contains(err.Error()+conf.HintOf(err), "s3") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if _, err := NewPublisher(PublisherOptions{URL: "mqtt://h"}); conf.CodeOf(err) != conf.CodeUsage {
		t.Errorf("no source: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	p := &Publisher{o: PublisherOptions{MinBackoff: 200 * time.Millisecond, MaxBackoff: 10 * time.Second}}
	for attempts, want := range map[int]time.Duration{1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 6: 6400 * time.Millisecond, 7: 10 * time.Second, 500: 10 * time.Second} {
		low, high := want, time.Duration(0)
		for range 2000 {
			d := backoff(attempts, p.o.MinBackoff, p.o.MaxBackoff)
			low, high = min(low, d), max(high, d)
		}
		if low < want/2 || high > want || high-low < want/4 {
			t.Errorf("attempt %d: %s to %s", attempts, low, high)
		}
	}
}

// TestEpochChanges publishes the proof of an epoch before what is of it, also when
// it is known only later.
func TestEpochChanges(t *testing.T) {
	const next = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	src := newSource(record("a", testEpoch, 1, false))
	f := &messageCache{source: src, alarms: alarm.NewSet(slog.New(slog.DiscardHandler))}
	if d := f.sync(); len(d.changed) != 1 || d.changed[0].topic != ConfigPrefix+"a" {
		t.Fatalf("without a change of the epoch: %v", d.changed)
	}
	src.changes = []conf.EpochChange{{Previous: testEpoch, Epoch: next, At: "2026-01-02T03:04:05+00:00"}}
	src.restart(next, record("a", next, 2, false))
	d := f.sync()
	if len(d.changed) != 2 || d.changed[0].topic != EpochTopic || !strings.Contains(string(d.changed[0].payload), next) || d.gone != nil {
		t.Fatalf("after it: %v, gone %v", d.changed, d.gone)
	}
	if d := f.sync(); len(d.changed) != 0 {
		t.Fatalf("it is published again: %v", d.changed)
	}
	// An agent that starts from its last-known-good file learns of it with its store.
	late := &messageCache{source: src, alarms: f.alarms}
	changes := src.changes
	src.changes = nil
	late.sync()
	src.changes = changes
	if d := late.sync(); len(d.changed) != 1 || d.changed[0].topic != EpochTopic {
		t.Fatalf("learned later: %v", d.changed)
	}
}
