package broker

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// witness is a subscriber that must go on being served whatever others do.
type witness struct {
	*raw
	src     *fakeSource
	version uint64
}

func newWitness(t testing.TB, b *Broker, src *fakeSource) *witness {
	t.Helper()
	src.set(record("witness", testEpoch, 1, false))
	await(t, "the witness's service is there", func() bool {
		b.mu.RLock()
		defer b.mu.RUnlock()
		return b.retained["system/config/witness"] != nil
	})
	w := &witness{subscriber(t, b, 5, 1, "system/config/witness"), src, 1}
	w.message()
	return w
}

// served changes the witness's service and waits for the change, and for nothing
// else, to arrive.
func (w *witness) served() time.Duration {
	w.t.Helper()
	w.version++
	began := time.Now()
	w.src.set(record("witness", testEpoch, w.version, false))
	for {
		m := w.message()
		if !bytes.Contains(m.Payload, []byte(`"service":"witness"`)) || bytes.Contains(m.Payload, []byte("forged")) {
			w.t.Fatalf("the witness got %s", m.Payload)
		}
		if bytes.Contains(m.Payload, fmt.Appendf(nil, `{"n":%d}`, w.version)) {
			return time.Since(began)
		}
	}
}

// unchanged checks that what is retained is what the source has.
func unchanged(t testing.TB, b *Broker, src *fakeSource) {
	t.Helper()
	want := src.newest(t)
	got := retained(t, b.Addr(), 5, "system/config/#", len(want))
	for topic, payload := range want {
		if string(got[topic].Payload) != payload {
			t.Fatalf("%s is %s", topic, got[topic].Payload)
		}
	}
}

func TestPublishIsDenied(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	w := newWitness(t, b, src)
	topics := []string{"system/config/witness", "system/config/new", HealthTopic, "other", "$SYS/broker/uptime"}
	denied := uint64(0)
	for _, topic := range topics {
		for qos := byte(0); qos <= 2; qos++ {
			old := dial(t, b.Addr(), 4)
			old.connect("forger")
			old.send(publishPacket(4, qos, topic))
			if last := old.closed(); last.FixedHeader.Type != 0 {
				t.Fatalf("MQTT 3.1.1 QoS %d: got %v", qos, last.FixedHeader.Type)
			}
			c := dial(t, b.Addr(), 5)
			c.connect("forger")
			c.send(publishPacket(5, qos, topic))
			denied += 2
			if qos == 0 {
				if last := c.closed(); last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != packets.ErrNotAuthorized.Code {
					t.Fatalf("MQTT 5 QoS 0: got %v %#x", last.FixedHeader.Type, last.ReasonCode)
				}
				continue
			}
			ack := c.expect(map[byte]byte{1: packets.Puback, 2: packets.Pubrec}[qos])
			if ack.ReasonCode != packets.ErrNotAuthorized.Code || ack.PacketID != 77 {
				t.Fatalf("MQTT 5 QoS %d: reason %#x", qos, ack.ReasonCode)
			}
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			c.expect(packets.Pingresp) // still connected
		}
	}
	if n := b.Stats().Refused[ReasonPublish]; n != denied {
		t.Fatalf("%d refused publishes counted, %d sent", n, denied)
	}
	w.served()
	unchanged(t, b, src)
}

func TestPublishAgainAndAgainEndsTheConnection(t *testing.T) {
	b := start(t, Options{Source: newSource()})
	c := dial(t, b.Addr(), 5)
	c.connect("stubborn")
	for range maxRejectedPublishes {
		c.send(publishPacket(5, 1, "system/config/a"))
		c.expect(packets.Puback)
	}
	c.send(publishPacket(5, 1, "system/config/a"))
	if last := c.closed(); last.FixedHeader.Type != packets.Disconnect {
		t.Fatalf("got %v", last.FixedHeader.Type)
	}
}

func TestWillIsRefused(t *testing.T) {
	src := newSource()
	b := start(t, Options{Source: src})
	w := newWitness(t, b, src)
	for version, code := range map[byte]byte{4: 5, 5: packets.ErrNotAuthorized.Code} {
		for _, topic := range []string{"system/config/witness", HealthTopic, "elsewhere"} {
			pk := connectPacket(version, "mortal")
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, topic, []byte(`{"forged":true}`), true
			c := dial(t, b.Addr(), version)
			c.send(pk)
			if last := c.closed(); last.FixedHeader.Type != packets.Connack || last.ReasonCode != code {
				t.Fatalf("MQTT version %d: type %v reason %#x", version, last.FixedHeader.Type, last.ReasonCode)
			}
		}
	}
	if n := b.Stats().Refused[ReasonWill]; n != 6 {
		t.Fatalf("%d counted", n)
	}
	w.served()
	unchanged(t, b, src)
}

func TestFiltersOutsideAreRefused(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	bad := []string{"#", "+/#", "+/config/a", "$share/g/system/config/a", "$SYS/#", "other/a", "system"}
	for _, version := range []byte{4, 5} {
		c := dial(t, b.Addr(), version)
		c.connect("curious")
		for i, code := range c.subscribe(1, append(bad, "system/config/a")...) {
			if refused := code >= 0x80; refused != (i < len(bad)) {
				t.Errorf("MQTT version %d, %d: %#x", version, i, code)
			}
		}
		if m := c.message(); m.TopicName != "system/config/a" {
			t.Fatalf("got %s", m.TopicName)
		}
	}
	if n := b.Stats().Refused[ReasonFilter]; n != uint64(2*len(bad)) {
		t.Fatalf("%d counted", n)
	}
}

func TestConnackTellsWhatIsMissing(t *testing.T) {
	b := start(t, Options{Source: newSource()})
	pk := connectPacket(5, "")
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	pk.Connect.Clean = false
	c := dial(t, b.Addr(), 5)
	c.send(pk)
	p := c.expect(packets.Connack).Properties
	if !p.SharedSubAvailableFlag || p.SharedSubAvailable != 0 || p.MaximumPacketSize != 16<<10 || p.TopicAliasMaximum != 0 || p.MaximumQos != 1 {
		t.Errorf("CONNACK %+v", p)
	}
	if !p.SessionExpiryIntervalFlag || p.SessionExpiryInterval != 0 {
		t.Error("the client believes that its session is kept")
	}
	if p.AssignedClientID == "" {
		t.Error("a client without an id is not told the one that it got")
	}
}

// TestOneIDTwoClients holds that nobody can throw another client out by taking its
// id, the broker's own included.
func TestOneIDTwoClients(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	for round, id := range []string{"inline", "worker"} {
		var clients []*raw
		for i := range 4 {
			c := dial(t, b.Addr(), byte(4+i%2))
			pk := connectPacket(c.v, id)
			pk.Connect.Clean = false
			c.send(pk)
			if ack := c.expect(packets.Connack); ack.ReasonCode != 0 || ack.SessionPresent {
				t.Fatalf("%s: reason %#x, session %v", id, ack.ReasonCode, ack.SessionPresent)
			}
			c.subscribe(1, "system/config/a")
			c.message()
			clients = append(clients, c)
		}
		version := uint64(round) + 2
		src.set(record("a", testEpoch, version, false))
		for i, c := range clients {
			if m := c.message(); !bytes.Contains(m.Payload, fmt.Appendf(nil, `{"n":%d}`, version)) {
				t.Fatalf("client %d of id %s got %s", i, id, m.Payload)
			}
		}
	}
}

func TestSessionsAreForgotten(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	for i := range 20 {
		c := dial(t, b.Addr(), byte(4+i%2))
		pk := connectPacket(c.v, "keeps")
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1<<32-1, true
		c.send(pk)
		c.expect(packets.Connack)
		c.subscribe(1, "system/config/a")
		c.message()
		if i%3 == 0 {
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		}
		_ = c.nc.Close()
	}
	await(t, "nothing is left of them", func() bool {
		b.mu.RLock()
		defer b.mu.RUnlock()
		return len(b.conns)+len(b.topics.of)+len(b.topics.exact)+len(b.topics.wild)+len(b.perIP)+b.server.Clients.Len() == 0 &&
			len(b.server.Topics.Subscribers("system/config/a").Subscriptions) == 0
	})
}

func TestCredentials(t *testing.T) {
	b := start(t, Options{Source: newSource(), User: "service", Password: "right"})
	for _, version := range []byte{4, 5} {
		for _, c := range []struct {
			user, password string
			ok             bool
		}{{"service", "right", true}, {"service", "wrong", false}, {"service", "", false}, {"", "", false}, {"other", "right", false}, {"right", "service", false}} {
			pk := connectPacket(version, "x")
			pk.Connect.UsernameFlag, pk.Connect.Username = c.user != "", []byte(c.user)
			pk.Connect.PasswordFlag, pk.Connect.Password = c.password != "", []byte(c.password)
			r := dial(t, b.Addr(), version)
			r.send(pk)
			if ack := r.expect(packets.Connack); (ack.ReasonCode == 0) != c.ok {
				t.Errorf("MQTT version %d, %q %q: reason %#x", version, c.user, c.password, ack.ReasonCode)
			}
			if !c.ok {
				r.closed()
			}
		}
	}
	if n := b.Stats().Refused[ReasonCredentials]; n != 10 {
		t.Fatalf("%d counted", n)
	}
}

func TestNoConnectInTime(t *testing.T) {
	src := newSource()
	b := start(t, Options{Source: src, Limits: Limits{Connect: 3 * time.Second}})
	silent, half := dial(t, b.Addr(), 4), dial(t, b.Addr(), 4)
	half.bytes([]byte{0x10, 0x20, 0x00})
	silent.closed()
	half.closed()
	await(t, "both are counted", func() bool { return b.Stats().Refused[ReasonNoConnect] == 2 })
	w := newWitness(t, b, src) // the deadline does not outlive CONNECT
	tick := time.NewTimer(3100 * time.Millisecond)
	<-tick.C
	w.served()
}

func TestKeepAlive(t *testing.T) {
	b := start(t, Options{Source: newSource()})
	c := dial(t, b.Addr(), 5)
	pk := connectPacket(5, "sleepy")
	pk.Connect.Keepalive = 1
	began := time.Now()
	c.send(pk)
	c.expect(packets.Connack)
	c.closed()
	if d := time.Since(began); d < 1400*time.Millisecond || d > 15*time.Second {
		t.Fatalf("closed after %s", d)
	}
	await(t, "it is counted", func() bool { return b.Stats().Refused[ReasonSilent] == 1 })
}

func TestLimitOfConnections(t *testing.T) {
	src := newSource()
	for name, o := range map[string]struct {
		limits Limits
		reason Reason
	}{
		"all":    {Limits{Connections: 3}, ReasonConnections},
		"per ip": {Limits{Connections: 10, PerIP: 3}, ReasonPerIP},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, Options{Source: src, Limits: o.limits})
			clients := make([]*raw, 3)
			for i := range clients {
				clients[i] = dial(t, b.Addr(), 5)
				clients[i].connect("x")
			}
			dial(t, b.Addr(), 5).closed()
			if n := b.Stats().Refused[o.reason]; n != 1 {
				t.Fatalf("%d counted", n)
			}
			_ = clients[0].nc.Close()
			await(t, "room for another", func() bool { return b.Stats().Connections == 2 })
			dial(t, b.Addr(), 5).connect("y")
		})
	}
}

func TestLimitOfFilters(t *testing.T) {
	b := start(t, Options{Source: newSource(), Limits: Limits{Filters: 3}})
	c := dial(t, b.Addr(), 5)
	c.connect("greedy")
	c.subscribe(1, "system/config/a", "system/config/b")
	c.subscribe(1, "system/config/a", "system/config/c") // one of them again
	c.send(subscribePacket(5, 2, 1, "system/config/d"))
	if last := c.closed(); last.FixedHeader.Type != packets.Disconnect || last.ReasonCode != packets.ErrQuotaExceeded.Code {
		t.Fatalf("got %v %#x", last.FixedHeader.Type, last.ReasonCode)
	}
	if n := b.Stats().Refused[ReasonQuota]; n != 1 {
		t.Fatalf("%d counted", n)
	}
}

func TestPasswordIsNotLogged(t *testing.T) {
	var log lines
	b := start(t, Options{Source: newSource(), User: "u", Password: "right-secret", Logger: log.logger()})
	for _, twice := range []bool{false, true} { // mochi logs a second CONNECT, password and all
		c := dial(t, b.Addr(), 4)
		pk := connectPacket(4, "x")
		pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte("u")
		pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte("wrong-secret")
		if twice {
			pk.Connect.Password = []byte("right-secret")
			c.send(pk)
			c.expect(packets.Connack)
		}
		c.send(pk)
		c.closed()
	}
	await(t, "both are gone", func() bool { return b.Stats().Connections == 0 })
	digits := strings.Trim(fmt.Sprint([]byte("secret")), "[]") // how mochi prints it
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), digits) || !strings.Contains(log.String(), "credentials") {
		t.Fatalf("log:\n%s", log.String())
	}
}

func TestThousandConnections(t *testing.T) {
	const clients = 1000
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	w := newWitness(t, b, src)
	subs := make([]*raw, clients)
	var all sync.WaitGroup
	each := func(f func(i int)) {
		for g := range 8 {
			all.Go(func() {
				for i := g; i < clients; i += 8 {
					f(i)
				}
			})
		}
		all.Wait()
	}
	each(func(i int) {
		nc, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		c := wrap(t, nc, byte(4+i%2))
		c.nc.SetDeadline(time.Now().Add(patient))
		c.bytes(encode(t, connectPacket(c.v, fmt.Sprint("c", i))))
		c.bytes(encode(t, subscribePacket(c.v, 1, byte(i/2%2), "system/config/a")))
		subs[i] = c
	})
	var mu sync.Mutex
	bad := 0
	read := func(version uint64) {
		each(func(i int) {
			for {
				pk, err := subs[i].next()
				if err != nil {
					mu.Lock()
					bad++
					mu.Unlock()
					return
				}
				if pk.FixedHeader.Type != packets.Publish {
					continue
				}
				if pk.FixedHeader.Qos > 0 {
					ack := packets.Packet{ProtocolVersion: subs[i].v, FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID}
					_, _ = subs[i].nc.Write(encode(t, ack))
				}
				if bytes.Contains(pk.Payload, fmt.Appendf(nil, `{"n":%d}`, version)) {
					return
				}
			}
		})
	}
	read(1)
	for v := uint64(2); v < 5; v++ {
		src.set(record("a", testEpoch, v, false))
		read(v)
	}
	if bad > 0 {
		t.Fatalf("%d of %d clients did not get the newest", bad, clients)
	}
	if n := b.Stats().Connections; n != clients+1 {
		t.Fatalf("%d connections", n)
	}
	w.served()
}

func TestReasonsAreComplete(t *testing.T) {
	s := newCounters().stats()
	if len(s.Refused) != len(reasons) || len(slices.Compact(slices.Sorted(slices.Values(reasons)))) != len(reasons) {
		t.Fatalf("%v", s.Refused)
	}
}
