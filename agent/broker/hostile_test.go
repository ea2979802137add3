package broker

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// script is a connection whose peer sends what is written here and then closes.
// What the broker answers is counted.
type script struct {
	net.Conn
	in      *bytes.Reader
	written atomic.Int64
}

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	s.written.Add(int64(len(p)))
	return len(p), nil
}
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// sevenBytes is a SUBSCRIBE of MQTT 5 whose filter has no options: mochi reads
// past its end.
var sevenBytes = []byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 'a'}

// fiveBytes announces a CONNECT of 256 MiB.
var fiveBytes = []byte{0x10, 0xff, 0xff, 0xff, 0x7f}

func bareMochi(t testing.TB) *mochi.Server {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// allowAll is a hook that lets everybody in and only reads be.
type allowAll struct{ mochi.HookBase }

func (*allowAll) ID() string { return "allow" }
func (*allowAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (*allowAll) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allowAll) OnACLCheck(_ *mochi.Client, _ string, write bool) bool    { return !write }

// TestMochiNeedsItsGuards shows that what this package guards against is there: a
// release of mochi that fails this test needs a guard less.
func TestMochiNeedsItsGuards(t *testing.T) {
	open := append(encode(t, connectPacket(5, "x")), sevenBytes...)
	t.Run("panic", func(t *testing.T) {
		s := bareMochi(t)
		if err := s.AddHook(&allowAll{}, nil); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if recover() == nil {
				t.Error("mochi does not panic any more")
			}
		}()
		_ = s.EstablishConnection("x", &script{in: bytes.NewReader(open)})
	})
	t.Run("will", func(t *testing.T) {
		s := bareMochi(t)
		if err := s.AddHook(&allowAll{}, nil); err != nil {
			t.Fatal(err)
		}
		pk := connectPacket(4, "x")
		pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillTopic, pk.Connect.WillPayload = true, true, "system/config/a", []byte("x")
		_ = s.EstablishConnection("x", &script{in: bytes.NewReader(encode(t, pk))})
		if len(s.Topics.Messages("system/config/a")) == 0 {
			t.Error("a Will respects the write ACL now")
		}
	})
	t.Run("retained expire", func(t *testing.T) {
		if mochi.NewDefaultServerCapabilities().MaximumMessageExpiryInterval == 0 {
			t.Error("retained messages are kept by default now")
		}
	})
}

func TestKnownMalformedPackets(t *testing.T) {
	src := newSource()
	b := start(t, Options{Source: src})
	w := newWitness(t, b, src)
	c := dial(t, b.Addr(), 5)
	c.connect("seven")
	c.bytes(sevenBytes)
	c.closed()
	await(t, "the panic is counted", func() bool { return b.Stats().Refused[ReasonPanic] == 1 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	bombs := make([]*raw, 200)
	for i := range bombs {
		bombs[i] = dial(t, b.Addr(), 4)
		bombs[i].bytes(fiveBytes)
	}
	for _, c := range bombs {
		c.closed()
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 64<<20 {
		t.Fatalf("200 times five bytes allocated %d MiB", grown>>20)
	}
	await(t, "they are counted", func() bool { return b.Stats().Refused[ReasonTooLarge] == uint64(len(bombs)) })
	w.served()
	await(t, "nothing is left of them", func() bool { return b.Stats().Connections == 1 && b.server.Clients.Len() == 1 })
}

// corpus are well-formed conversations to mutate.
func corpus(t testing.TB, version byte) (connects, rest [][]byte) {
	pk := connectPacket(version, "mutant")
	pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte("user")
	pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte("pass")
	pk.Properties.ReceiveMaximum = 10
	pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
	connect := encode(t, pk)
	sub := subscribePacket(version, 2, 1, "system/config/a", "system/#")
	sub.Properties.SubscriptionIdentifier = []int{9}
	un := packets.Packet{
		ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 3,
		Filters: packets.Subscriptions{{Filter: "system/#"}},
	}
	pub := publishPacket(version, 1, "system/config/a")
	pub.Properties.User = pk.Properties.User
	mortal := pk
	mortal.Connect.WillFlag, mortal.Connect.WillTopic, mortal.Connect.WillPayload = true, "system/config/a", []byte("x")
	simple := func(kind byte) []byte {
		p := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: kind}, PacketID: 1}
		if kind == packets.Pubrel {
			p.FixedHeader.Qos = 1
		}
		return encode(t, p)
	}
	rest = [][]byte{
		encode(t, sub), encode(t, un), encode(t, pub), encode(t, publishPacket(version, 0, "a")), encode(t, publishPacket(version, 2, "a")),
		simple(packets.Puback), simple(packets.Pubrec), simple(packets.Pubrel), simple(packets.Pubcomp), simple(packets.Pingreq),
		simple(packets.Disconnect), simple(packets.Auth), connect,
	}
	return [][]byte{connect, encode(t, mortal)}, rest
}

// mutate changes a packet in one of a few ways; most of them keep the length in
// the header true, so that the body is parsed.
func mutate(r *rand.Rand, p []byte) []byte {
	p = bytes.Clone(p)
	for range 1 + r.IntN(3) {
		if len(p) < 3 {
			return append(p, byte(r.Uint32()), byte(r.Uint32()))
		}
		i := 2 + r.IntN(len(p)-2)
		switch r.IntN(8) {
		case 0:
			p[i] ^= 1 << r.IntN(8)
		case 1:
			p[i] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 2:
			p = p[:i]
		case 3:
			p = append(p[:i:i], p[i+1:]...)
		case 4:
			p = append(p[:i:i], append([]byte{byte(r.Uint32())}, p[i:]...)...)
		case 5:
			p[0] = byte(r.Uint32())
		case 6:
			p[1] = byte(r.Uint32())
			return p
		case 7:
			p = append(p, p[i:]...)
		}
	}
	if len(p) >= 2 && len(p) < 130 {
		p[1] = byte(len(p) - 2)
	}
	return p
}

// count is how often a test does something: as often as the environment says, or n.
func count(t *testing.T, env string, n int) int {
	t.Helper()
	text, ok := os.LookupEnv(env)
	if !ok {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// TestMutatedPackets sends 40,000 packets that are almost right, from a fixed seed,
// with the two that mochi cannot bear among them. Each has a connection of its own,
// since most of them end it. HOLDFAST_PACKETS=1000000 takes a minute or two.
func TestMutatedPackets(t *testing.T) {
	total := count(t, "HOLDFAST_PACKETS", 40_000)
	if testing.Short() {
		total = 10_000
	}
	peak := watchHeap(t)
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	w := newWitness(t, b, src)
	workers := runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	var sent atomic.Int64
	for g := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(20260102, uint64(g)))
			for sent.Add(1) <= int64(total) {
				version := byte(4 + r.IntN(2))
				connects, rest := corpus(t, version)
				in := bytes.Clone(connects[0])
				switch n := r.IntN(100); {
				case n < 20:
					in = mutate(r, connects[r.IntN(2)])
				case n < 21:
					in = append(in, sevenBytes...)
				case n < 22:
					in = append(in, mutate(r, sevenBytes)...)
				case n < 23:
					in = append(in, fiveBytes...)
				case n < 24:
					in = bytes.Clone(fiveBytes)
				default:
					in = append(in, mutate(r, rest[r.IntN(len(rest))])...)
				}
				b.admitAndWait(&script{in: bytes.NewReader(in)})
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	times, tick := 0, time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for over := false; !over; times++ { // others are served all the while
		w.served()
		select {
		case <-tick.C:
		case <-done:
			over = true
		}
	}
	w.served()
	unchanged(t, b, src)
	s := b.Stats()
	t.Logf("the witness was served %d times", times)
	t.Logf("%d packets: %v, at most %d MiB of heap", total, s.Refused, peak()>>20)
	if peak() > 128<<20 {
		t.Errorf("the heap grew to %d MiB", peak()>>20)
	}
	for _, reason := range []Reason{ReasonPanic, ReasonMalformed, ReasonTooLarge, ReasonPublish, ReasonWill, ReasonFilter} {
		if s.Refused[reason] == 0 && !testing.Short() {
			t.Errorf("no packet was refused as %q: the mutations do not reach that", reason)
		}
	}
	await(t, "nothing is left of them", func() bool { return b.Stats().Connections == 1 && b.server.Clients.Len() == 1 })
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		t.Fatalf("%d MiB are held after it", m.HeapAlloc>>20)
	}
}

// watchHeap gives the largest heap since it was called.
func watchHeap(t *testing.T) (peak func() uint64) {
	runtime.GC()
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	look := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most.Store(max(most.Load(), m.HeapAlloc))
	}
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return most.Load
}

// admitAndWait serves one connection as accept does, on this goroutine.
func (b *Broker) admitAndWait(nc net.Conn) {
	c := newConn(b, nc, "test")
	b.mu.Lock()
	b.conns[c] = struct{}{}
	b.perIP["test"]++
	b.mu.Unlock()
	b.serve(c)
}

// TestStuckSubscriber holds that a QoS 1 subscriber which reads nothing delays
// nobody, costs no memory that grows, and is thrown out.
func TestStuckSubscriber(t *testing.T) {
	large := func(v uint64) []byte {
		return fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, v, bytes.Repeat([]byte("y"), 512<<10))
	}
	src := newSource(signed("large", testEpoch, 1, large(1), false))
	b := start(t, Options{Source: src, Limits: Limits{Write: 12 * time.Second}})
	w := newWitness(t, b, src)
	stuck := make([]*raw, 5)
	for i := range stuck {
		stuck[i] = dial(t, b.Addr(), byte(4+i%2))
		_ = stuck[i].nc.(*net.TCPConn).SetReadBuffer(4096)
		stuck[i].connect("stuck")
		stuck[i].bytes(encode(t, subscribePacket(stuck[i].v, 1, byte(i%2), "system/config/#")))
	}
	var slowest time.Duration
	began := time.Now()
	for v := uint64(2); b.Stats().Refused[ReasonSlow] < uint64(len(stuck)); v++ {
		src.set(signed("large", testEpoch, v, large(v), false))
		slowest = max(slowest, w.served())
		if time.Since(began) > patient {
			t.Fatalf("not thrown out: %v", b.Stats().Refused)
		}
	}
	t.Logf("slowest delivery beside %d stuck subscribers: %s, thrown out after %s", len(stuck), slowest, time.Since(began))
	if slowest > 10*time.Second { // who waits for one waits until it is thrown out
		t.Fatalf("a stuck subscriber delayed another by %s", slowest)
	}
	for _, c := range stuck {
		c.nc.SetReadDeadline(time.Now().Add(patient))
		if _, err := io.Copy(io.Discard, c.nc); os.IsTimeout(err) {
			t.Fatal("still connected")
		}
	}
	w.served()
}

// TestNoAcknowledgement holds that a client which reads everything and acknowledges
// nothing is disconnected, and one that acknowledges slowly is not.
func TestNoAcknowledgement(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false), record("b", testEpoch, 1, false), record("c", testEpoch, 1, false))
	b := start(t, Options{Source: src, Limits: Limits{Window: 1, Ack: 6 * time.Second}})
	mute, slow := subscriber(t, b, 5, 1, "system/config/+"), subscriber(t, b, 5, 1, "system/config/+")
	idle := subscriber(t, b, 4, 1, "system/config/a")
	idle.expect(packets.Publish) // the window is full, but nothing waits
	for range 3 {
		m := slow.expect(packets.Publish)
		pause := time.NewTimer(2200 * time.Millisecond) // three of them are more than Ack
		<-pause.C
		slow.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: m.PacketID})
	}
	mute.closed()
	if n := b.Stats().Refused[ReasonSlow]; n != 1 {
		t.Fatalf("%d counted", n)
	}
	for _, c := range []*raw{slow, idle} {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		c.expect(packets.Pingresp)
	}
}

// TestStopBesideStuckSubscriber holds that an agent can be stopped at any time.
func TestStopBesideStuckSubscriber(t *testing.T) {
	src := newSource(signed("large", testEpoch, 1, fmt.Appendf(nil, `{"x":"%s"}`, bytes.Repeat([]byte("y"), 1<<20)), false))
	for i := range 20 {
		src.set(signed(fmt.Sprintf("large%d", i), testEpoch, 1, src.records["large"].Config, false))
	}
	b := start(t, Options{Source: src})
	c := dial(t, b.Addr(), 4)
	_ = c.nc.(*net.TCPConn).SetReadBuffer(4096)
	c.connect("stuck")
	c.bytes(encode(t, subscribePacket(4, 1, 1, "system/config/#")))
	await(t, "it is being written to", func() bool { return b.Stats().Connections == 1 && len(b.subsOf()) == 1 })
	began := time.Now()
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 15*time.Second { // less than what is written to it may take
		t.Fatalf("the stop took %s", d)
	}
}

func (b *Broker) subsOf() []*conn {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []*conn
	for c := range b.topics.of {
		out = append(out, c)
	}
	return out
}
