package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

const patient = base.Patience // for what must happen; nothing waits that long when it does

var (
	testKey    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	testPublic = testKey.Public().(ed25519.PublicKey)
	testSigner = seal.NewSigner(testKey)
	testStart  = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
)

const testEpoch = "550e8400-e29b-41d4-a716-446655440000"

// record makes a signed record; its document tells its version.
func record(service, epoch string, version uint64, deleted bool) *conf.Record {
	config := fmt.Appendf(nil, `{"n":%d}`, version)
	if deleted {
		config = []byte(`{}`)
	}
	return signed(service, epoch, version, config, deleted)
}

func signed(service, epoch string, version uint64, config []byte, deleted bool) *conf.Record {
	u := testSigner.Sign(service, config, epoch, testStart.Add(time.Duration(version)*time.Second))
	return &conf.Record{
		Service: service, Version: version, Epoch: epoch, Values: config, Config: config, Checksum: u.Checksum,
		IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: testSigner.KeyID(), Deleted: deleted, Index: 100 + version,
	}
}

func payloadOf(t testing.TB, r *conf.Record) []byte {
	t.Helper()
	p, err := seal.EncodeUpdate(r.Update())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fakeSource is a Source that a test changes.
type fakeSource struct {
	mu      sync.Mutex
	epoch   string
	changes []conf.EpochChange
	records map[string]*conf.Record
	changed chan struct{}
	health  conf.Health
	healthC chan struct{}
	loads   int
}

func newSource(records ...*conf.Record) *fakeSource {
	s := &fakeSource{
		epoch: testEpoch, records: map[string]*conf.Record{}, changed: make(chan struct{}), healthC: make(chan struct{}),
		health: conf.Health{
			OK: true, DatabaseStatus: conf.DatabaseHealthy, OperationalMode: conf.ModeNormal, ConfigEpoch: testEpoch,
			SchemaVersion: 1, LKGCacheValid: true, LitestreamStatus: "disabled",
		},
	}
	s.set(records...)
	return s
}

func (s *fakeSource) Load(any) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return State{Epoch: s.epoch, Changes: s.changes, Cursor: s, Records: maps.Values(maps.Clone(s.records)), Changed: s.changed}
}

func (s *fakeSource) Health() (conf.Health, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health, s.healthC
}

func (s *fakeSource) set(records ...*conf.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		s.records[r.Service] = r
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// restart replaces everything, as a restored store does.
func (s *fakeSource) restart(epoch string, records ...*conf.Record) {
	s.mu.Lock()
	s.epoch, s.records = epoch, map[string]*conf.Record{}
	s.mu.Unlock()
	s.set(records...)
}

func (s *fakeSource) setHealth(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Event = &event
	close(s.healthC)
	s.healthC = make(chan struct{})
}

// newest is what must be retained: topic to payload.
func (s *fakeSource) newest(t testing.TB) map[string]string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for name, r := range s.records {
		out[ConfigPrefix+name] = string(payloadOf(t, r))
	}
	return out
}

// await polls until ok, and fails with what it says otherwise.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patient)
	defer late.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("not within %s: %s", patient, what)
		}
	}
}

// start runs a broker until the test ends.
func start(t testing.TB, o Options) *Broker {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return b
}

// raw is a client that sends and reads single packets.
type raw struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
	v  byte
}

func dial(t testing.TB, addr net.Addr, version byte) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, nc, version)
}

func wrap(t testing.TB, nc net.Conn, version byte) *raw {
	t.Cleanup(func() { _ = nc.Close() })
	return &raw{t: t, nc: nc, r: bufio.NewReader(nc), v: version}
}

func encode(t testing.TB, pk packets.Packet) []byte {
	t.Helper()
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		err = pk.UnsubscribeEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Pubrec:
		err = pk.PubrecEncode(&buf)
	case packets.Pubrel:
		err = pk.PubrelEncode(&buf)
	case packets.Pubcomp:
		err = pk.PubcompEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	case packets.Auth:
		err = pk.AuthEncode(&buf)
	case packets.Connack:
		err = pk.ConnackEncode(&buf)
	default:
		t.Fatalf("cannot encode %d", pk.FixedHeader.Type)
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func connectPacket(version byte, id string) packets.Packet {
	return packets.Packet{
		ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: id},
	}
}

func subscribePacket(version byte, id uint16, qos byte, filters ...string) packets.Packet {
	pk := packets.Packet{
		ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: id,
	}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	return pk
}

func publishPacket(version, qos byte, topic string) packets.Packet {
	pk := packets.Packet{
		ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: true},
		TopicName: topic, Payload: []byte(`{"forged":true}`),
	}
	if qos > 0 {
		pk.PacketID = 77
	}
	return pk
}

func (c *raw) send(pk packets.Packet) {
	c.t.Helper()
	pk.ProtocolVersion = c.v
	c.bytes(encode(c.t, pk))
}

func (c *raw) bytes(p []byte) {
	c.t.Helper()
	_ = c.nc.SetWriteDeadline(time.Now().Add(patient))
	if _, err := c.nc.Write(p); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// next reads one packet; io.EOF is any end of the connection.
func (c *raw) next() (packets.Packet, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patient))
	pk := packets.Packet{ProtocolVersion: c.v}
	first, err := c.r.ReadByte()
	if err != nil {
		return pk, c.end(err)
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return pk, c.end(err)
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return pk, c.end(err)
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

func (c *raw) end(err error) error {
	if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // straight from the connection
		c.t.Fatalf("the broker says nothing for %s", patient)
	}
	return io.EOF
}

// expect reads a packet of one type.
func (c *raw) expect(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.next()
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s (reason %#x), want %s", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode, packets.PacketNames[kind])
	}
	return pk
}

// closed reads until the connection ends, and returns the last packet before.
func (c *raw) closed() (last packets.Packet) {
	c.t.Helper()
	for {
		pk, err := c.next()
		if err != nil {
			return last
		}
		last = pk
	}
}

func (c *raw) connect(id string) packets.Packet {
	c.t.Helper()
	c.send(connectPacket(c.v, id))
	ack := c.expect(packets.Connack)
	if ack.ReasonCode != 0 {
		c.t.Fatalf("CONNACK reason %#x", ack.ReasonCode)
	}
	return ack
}

func (c *raw) subscribe(qos byte, filters ...string) []byte {
	c.t.Helper()
	c.send(subscribePacket(c.v, 9, qos, filters...))
	return c.expect(packets.Suback).ReasonCodes
}

// message reads the next PUBLISH and acknowledges it.
func (c *raw) message() packets.Packet {
	c.t.Helper()
	pk := c.expect(packets.Publish)
	if pk.FixedHeader.Qos == 1 {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	return pk
}

// subscriber is a connected client with one subscription.
func subscriber(t testing.TB, b *Broker, version, qos byte, filter string) *raw {
	t.Helper()
	c := dial(t, b.Addr(), version)
	c.connect("subscriber")
	if codes := c.subscribe(qos, filter); !slices.Equal(codes, []byte{qos}) {
		t.Fatalf("SUBACK %v", codes)
	}
	return c
}

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// retained reads what addr retains below a filter, until it is want messages.
func retained(t testing.TB, addr net.Addr, version byte, filter string, want int) map[string]packets.Packet {
	t.Helper()
	c := dial(t, addr, version)
	c.connect("reader-" + strconv.FormatInt(time.Now().UnixNano(), 36))
	c.subscribe(1, filter)
	out := map[string]packets.Packet{}
	for len(out) < want {
		pk := c.message()
		if pk.FixedHeader.Retain {
			out[pk.TopicName] = pk
		}
	}
	_ = c.nc.Close()
	return out
}
