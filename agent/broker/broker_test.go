package broker

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func TestServesWhatTheLeaderSigned(t *testing.T) {
	live, dead := record("router", testEpoch, 3, false), record("gone", testEpoch, 9, true)
	unset := &conf.Record{Service: "unset", Epoch: testEpoch}
	b := start(t, Options{Source: newSource(live, dead, unset)})
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("MQTT version ", version), func(t *testing.T) {
			got := retained(t, b.Addr(), version, "system/#", 3)
			for _, r := range []*conf.Record{live, dead} {
				pk, ok := got[ConfigPrefix+r.Service]
				if !ok || !bytes.Equal(pk.Payload, payloadOf(t, r)) {
					t.Fatalf("%s: got %s", r.Service, pk.Payload)
				}
				u, err := seal.DecodeUpdate(pk.Payload)
				if err != nil {
					t.Fatal(err)
				}
				if err := seal.Verify(testPublic, u); err != nil {
					t.Fatal(err)
				}
				if version == 5 {
					want := []packets.UserProperty{
						{Key: "config-version", Val: strconv.FormatUint(r.Version, 10)},
						{Key: "config-index", Val: strconv.FormatUint(r.Index, 10)},
						{Key: "key-id", Val: seal.KeyID(testPublic)},
					}
					if r.Deleted {
						want = append(want, packets.UserProperty{Key: "config-deleted", Val: "true"})
					}
					if !slices.Equal(pk.Properties.User, want) {
						t.Fatalf("user properties %v", pk.Properties.User)
					}
				}
				if pk.FixedHeader.Qos != 1 {
					t.Fatalf("QoS %d", pk.FixedHeader.Qos)
				}
			}
			var h conf.Health
			if err := json.Unmarshal(got[HealthTopic].Payload, &h); err != nil || !h.OK || h.ConfigEpoch != testEpoch {
				t.Fatalf("health %s: %v", got[HealthTopic].Payload, err)
			}
		})
	}
}

func TestChangesArriveLive(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false), record("b", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	one := subscriber(t, b, 5, 1, "system/config/a")
	all := subscriber(t, b, 4, 0, "system/config/+")
	if pk := one.message(); !pk.FixedHeader.Retain {
		t.Fatal("the first message is not marked as retained")
	}
	all.message()
	all.message()
	src.set(record("b", testEpoch, 2, false))
	if pk := all.message(); pk.TopicName != "system/config/b" || pk.FixedHeader.Retain || pk.FixedHeader.Qos != 0 {
		t.Fatalf("got %s retain %v QoS %d", pk.TopicName, pk.FixedHeader.Retain, pk.FixedHeader.Qos)
	}
	src.set(record("a", testEpoch, 2, false), record("c", testEpoch, 1, false))
	if pk := one.message(); pk.TopicName != "system/config/a" || !bytes.Contains(pk.Payload, []byte(`{"n":2}`)) {
		t.Fatalf("got %s %s: a subscription of one service shows another, or not the newest", pk.TopicName, pk.Payload)
	}
	got := []string{all.message().TopicName, all.message().TopicName}
	slices.Sort(got)
	if !slices.Equal(got, []string{"system/config/a", "system/config/c"}) {
		t.Fatalf("got %v", got)
	}
}

func TestSameRecordsAreNotPublishedAgain(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	before := b.Stats().Published
	for range 3 {
		src.mu.Lock()
		loads := src.loads
		src.mu.Unlock()
		schema := *record("a", testEpoch, 1, false)
		schema.Schema = []byte(`{"type":"object"}`) // a new schema does not change what is signed
		src.set(&schema)
		await(t, "the broker looks", func() bool {
			src.mu.Lock()
			defer src.mu.Unlock()
			return src.loads > loads
		})
	}
	src.set(record("b", testEpoch, 1, false))
	await(t, "b is published", func() bool { return b.Stats().Published > before })
	if n := b.Stats().Published - before; n != 1 {
		t.Fatalf("%d messages for one change", n)
	}
}

func TestAnotherEpochReplacesEverything(t *testing.T) {
	src := newSource(record("a", testEpoch, 7, false), record("old", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	c := subscriber(t, b, 5, 1, "system/config/a")
	c.message()
	src.restart("6ba7b810-9dad-11d1-80b4-00c04fd430c8", record("a", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 1, false))
	if pk := c.message(); !bytes.Contains(pk.Payload, []byte("6ba7b810")) {
		t.Fatalf("got %s", pk.Payload)
	}
	await(t, "the old service is gone", func() bool {
		b.mu.RLock()
		defer b.mu.RUnlock()
		return b.retained["system/config/old"] == nil
	})
}

func TestHealthAtTransitionsAndBetween(t *testing.T) {
	src := newSource()
	b := start(t, Options{Source: src, HealthEvery: 20 * time.Millisecond})
	c := subscriber(t, b, 4, 1, HealthTopic)
	first := c.message()
	if again := c.message(); !bytes.Equal(first.Payload, again.Payload) || again.FixedHeader.Retain {
		t.Fatal("health is not repeated")
	}
	src.setHealth("restored")
	for {
		if bytes.Contains(c.message().Payload, []byte(`"event":"restored"`)) {
			return
		}
	}
}

func TestHealthTransitionNeedsNoTimer(t *testing.T) {
	src := newSource()
	b := start(t, Options{Source: src})
	c := subscriber(t, b, 5, 1, "system/health/#")
	c.message()
	src.setHealth("database locked")
	if pk := c.message(); !bytes.Contains(pk.Payload, []byte("database locked")) {
		t.Fatalf("got %s", pk.Payload)
	}
}

// TestFilledBeforeItListens holds that the first client of all gets everything,
// also what changed between New and Run.
func TestFilledBeforeItListens(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b, err := New(Options{Addr: "127.0.0.1:0", Source: src})
	if err != nil {
		t.Fatal(err)
	}
	if b.retained["system/config/a"] == nil || b.retained[HealthTopic] == nil {
		t.Fatal("the broker listens and has nothing to serve")
	}
	c := dial(t, b.Addr(), 4)
	c.send(connectPacket(4, "early"))
	c.send(subscribePacket(4, 1, 1, "system/config/+"))
	src.set(record("a", testEpoch, 2, false))
	ended := make(chan error, 1)
	go func() { ended <- b.Run(t.Context()) }()
	c.expect(packets.Connack)
	c.expect(packets.Suback)
	if pk := c.message(); !bytes.Contains(pk.Payload, []byte(`{"n":2}`)) {
		t.Fatalf("the first client got %s", pk.Payload)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestPahoClient(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src, User: "service", Password: "s3cret"})
	got := make(chan paho.Message, 10)
	o := paho.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID("paho").SetUsername("service").
		SetPassword("s3cret").SetCleanSession(false).SetAutoReconnect(false).SetConnectRetry(false)
	c := paho.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(patient) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(100)
	if tok := c.Subscribe("system/config/#", 1, func(_ paho.Client, m paho.Message) { got <- m }); !tok.WaitTimeout(patient) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	if m := <-got; !m.Retained() || m.Topic() != "system/config/a" {
		t.Fatalf("got %s", m.Topic())
	}
	src.set(record("a", testEpoch, 2, false))
	if m := <-got; m.Retained() || !bytes.Contains(m.Payload(), []byte(`{"n":2}`)) {
		t.Fatalf("got %s", m.Payload())
	}
}

// TestSubscriptionOptions covers what MQTT 5 adds to a subscription.
func TestSubscriptionOptions(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	c := dial(t, b.Addr(), 5)
	c.connect("options")
	pk := subscribePacket(5, 3, 2, "system/config/a")
	pk.Properties.SubscriptionIdentifier = []int{5}
	pk.Filters[0].RetainHandling = 2 // nothing that is retained
	pk.Filters[0].RetainAsPublished = true
	c.send(pk)
	if ack := c.expect(packets.Suback); !slices.Equal(ack.ReasonCodes, []byte{1}) {
		t.Fatalf("QoS 2 is granted as %v", ack.ReasonCodes)
	}
	pk = subscribePacket(5, 4, 0, "system/#")
	pk.Properties.SubscriptionIdentifier = []int{300}
	pk.Filters[0].RetainHandling = 2
	c.send(pk)
	c.expect(packets.Suback)
	src.set(record("a", testEpoch, 2, false))
	m := c.message()
	if !m.FixedHeader.Retain || m.FixedHeader.Qos != 1 || !slices.Equal(m.Properties.SubscriptionIdentifier, []int{5, 300}) {
		t.Fatalf("retain %v QoS %d ids %v", m.FixedHeader.Retain, m.FixedHeader.Qos, m.Properties.SubscriptionIdentifier)
	}
	// The message came once, although two filters cover it: the next is the answer to
	// the unsubscribe, then silence until what the other filter covers.
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 5,
		Filters: packets.Subscriptions{{Filter: "system/config/a"}, {Filter: "system/none"}},
	})
	if ack := c.expect(packets.Unsuback); !slices.Equal(ack.ReasonCodes, []byte{0, packets.CodeNoSubscriptionExisted.Code}) {
		t.Fatalf("UNSUBACK %v", ack.ReasonCodes)
	}
	src.set(record("a", testEpoch, 3, false))
	if m := c.message(); m.FixedHeader.Qos != 0 || !slices.Equal(m.Properties.SubscriptionIdentifier, []int{300}) {
		t.Fatalf("after unsubscribe: QoS %d ids %v", m.FixedHeader.Qos, m.Properties.SubscriptionIdentifier)
	}
	// Retain handling 1: only for a new subscription.
	pk = subscribePacket(5, 6, 1, "system/#", "system/config/+")
	pk.Filters[0].RetainHandling, pk.Filters[1].RetainHandling = 1, 1
	c.send(pk)
	c.expect(packets.Suback)
	if m := c.message(); m.TopicName != "system/config/a" {
		t.Fatalf("got %s for a subscription that existed", m.TopicName)
	}
}

// TestReceiveMaximum holds the client's window, and that acknowledging opens it
// again every time.
func TestReceiveMaximum(t *testing.T) {
	const services = 50
	src := newSource()
	for i := range services {
		src.set(record(fmt.Sprintf("s%d", i), testEpoch, 1, false))
	}
	b := start(t, Options{Source: src})
	c := dial(t, b.Addr(), 5)
	pk := connectPacket(5, "narrow")
	pk.Properties.ReceiveMaximum = 2
	c.send(pk)
	c.expect(packets.Connack)
	c.subscribe(1, "system/config/+")
	seen := map[string]bool{}
	for round := range 3 {
		clear(seen)
		var open []uint16
		for len(seen) < services {
			m := c.expect(packets.Publish)
			seen[m.TopicName] = true
			if open = append(open, m.PacketID); len(open) > 2 {
				t.Fatalf("%d messages on their way, the client takes 2", len(open))
			}
			if len(open) == 2 {
				// A PINGRESP can only come first if nothing else was sent.
				c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
				c.expect(packets.Pingresp)
			}
			if len(open) == 2 || len(seen) == services {
				for _, id := range open {
					c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
				}
				open = nil
			}
		}
		var next []*conf.Record
		for i := range services {
			next = append(next, record(fmt.Sprintf("s%d", i), testEpoch, uint64(round)+2, false))
		}
		src.set(next...)
	}
}

func TestMaximumPacketSizeOfTheClient(t *testing.T) {
	big := signed("big", testEpoch, 1, []byte(`{"x":"`+string(bytes.Repeat([]byte("y"), 4000))+`"}`), false)
	b := start(t, Options{Source: newSource(big, record("small", testEpoch, 1, false))})
	c := dial(t, b.Addr(), 5)
	pk := connectPacket(5, "tiny")
	pk.Properties.MaximumPacketSize = 1000
	c.send(pk)
	c.expect(packets.Connack)
	c.subscribe(1, "system/config/+")
	if m := c.message(); m.TopicName != "system/config/small" {
		t.Fatalf("got %s", m.TopicName)
	}
	await(t, "the large one is counted", func() bool { return b.Stats().Dropped == 1 })
}

// TestConflates holds that a subscriber which comes back from a pause gets the
// newest of each topic and not the backlog.
func TestConflates(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false), record("b", testEpoch, 1, false))
	b := start(t, Options{Source: src, Limits: Limits{Window: 1}})
	c := subscriber(t, b, 5, 1, "system/config/+")
	held := c.expect(packets.Publish) // not acknowledged: the window is full
	const last = 500
	for v := uint64(2); v <= last; v++ {
		src.set(record("a", testEpoch, v, false), record("b", testEpoch, v, false))
		await(t, "published", func() bool {
			b.mu.RLock()
			defer b.mu.RUnlock()
			return b.retained["system/config/a"].record.Version == v && b.retained["system/config/b"].record.Version == v
		})
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: held.PacketID})
	got := map[string]string{}
	for range 2 {
		m := c.message()
		got[m.TopicName] = string(m.Payload)
	}
	for topic, want := range src.newest(t) {
		if got[topic] != want {
			t.Fatalf("%s: got %s", topic, got[topic])
		}
	}
	if n := b.Stats().Conflated; n < last {
		t.Fatalf("%d conflated", n)
	}
}

func TestTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	b := start(t, Options{Source: newSource(record("a", testEpoch, 1, false)), TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	nc, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, nc, 5)
	c.connect("tls")
	c.subscribe(1, "system/config/a")
	c.message()
	plain := dial(t, b.Addr(), 5)
	plain.send(connectPacket(5, "plain"))
	_, _ = plain.nc.Read(make([]byte, 64))
	await(t, "plain MQTT is refused", func() bool { return b.Stats().Refused[ReasonTLS] == 1 })
}

func TestStopTellsClients(t *testing.T) {
	tries := 1
	for !stopTells(t) { // the last word has half a second, which a machine may sleep through
		if tries++; tries > 5 {
			t.Fatal("MQTT 5 got nothing")
		}
	}
}

// stopTells says whether a client of MQTT 5 was told why its connection ends.
func stopTells(t *testing.T) bool {
	t.Helper()
	b := start(t, Options{Source: newSource(record("a", testEpoch, 1, false))})
	five, three := subscriber(t, b, 5, 1, "system/config/a"), subscriber(t, b, 4, 1, "system/config/a")
	five.message()
	three.message()
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := five.closed()
	if last.FixedHeader.Type != 0 && (last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != packets.ErrServerShuttingDown.Code) {
		t.Fatalf("MQTT 5 got %v", last.FixedHeader.Type)
	}
	if last := three.closed(); last.FixedHeader.Type != 0 {
		t.Fatalf("MQTT 3.1.1 got a packet of type %v, which it does not know", last.FixedHeader.Type)
	}
	if _, err := net.Dial("tcp", b.Addr().String()); err == nil {
		t.Fatal("still listening")
	}
	return last.FixedHeader.Type != 0
}

func TestStopBeforeRun(t *testing.T) {
	b, err := New(Options{Addr: "127.0.0.1:0", Source: newSource()})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, o := range map[string]Options{
		"no source":      {Addr: "127.0.0.1:0"},
		"user alone":     {Addr: "127.0.0.1:0", Source: newSource(), User: "u"},
		"password alone": {Addr: "127.0.0.1:0", Source: newSource(), Password: "p"},
		"port in use":    {Addr: taken.Addr().String(), Source: newSource()},
		"not an address": {Addr: "nowhere", Source: newSource()},
	} {
		if _, err := New(o); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilters(t *testing.T) {
	for f, want := range map[string]bool{
		"system/config/router": true, "system/#": true, "system/+/router": true, "system/config/+": true, "system/health/config-manager": true,
		"system/config/#": true, "system/a/b/c": true,
		"#": false, "+/config/router": false, "+/#": false, "system": false, "system/": false, "systemx/a": false, "System/config/a": false,
		"$share/g/system/config/a": false, "$SYS/#": false, "$SYS/broker/version": false, "/system/config/a": false, "": false,
		"system/a+": false, "system/#/a": false, "system/a#": false, "system/+a/b": false, "system/a\x00": false,
		"system/a/b/c/d": false, "system/" + string(bytes.Repeat([]byte("a"), maxFilter)): false,
	} {
		if got := allowedFilter(f); got != want {
			t.Errorf("%q: %v", f, got)
		}
	}
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"system/config/a", "system/config/a", true},
		{"system/config/a", "system/config/ab", false},
		{"system/config/a", "system/config", false},
		{"system/config", "system/config/a", false},
		{"system/+/a", "system/config/a", true},
		{"system/+", "system/config/a", false},
		{"system/#", "system/config/a", true},
		{"system/config/#", "system/config", true},
		{"system/config/a/#", "system/config/a", true},
		{"system/config/+/#", "system/config/a", true},
		{"system/config/+/+", "system/config/a", false},
		{"system/config/b/#", "system/config/a", false},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("%q on %q: %v", c.filter, c.topic, got)
		}
	}
}
