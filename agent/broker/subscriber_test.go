package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// inbox keeps what a Subscriber hands over.
type inbox struct {
	mu     sync.Mutex
	got    []Message
	turned []error
}

func (i *inbox) handle(m Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	m.Payload = bytes.Clone(m.Payload)
	i.got = append(i.got, m)
}

func (i *inbox) turn(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.turned = append(i.turned, err)
}

func (i *inbox) last(topic string) (m Message, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, g := range i.got {
		if g.Topic == topic {
			m, ok = g, true
		}
	}
	return m, ok
}

// follows runs a Subscriber until the test ends.
func follows(t testing.TB, o SubscriberOptions) (*Subscriber, *inbox) {
	t.Helper()
	in := &inbox{}
	o.Handle, o.OnState = in.handle, in.turn
	setDefault(&o.MinBackoff, 10*time.Millisecond)
	setDefault(&o.MaxBackoff, 100*time.Millisecond)
	setDefault(&o.Timeout, 30*time.Second)
	s, err := NewSubscriber(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return s, in
}

func (i *inbox) awaits(t testing.TB, r *conf.Record) Message {
	t.Helper()
	want := string(payloadOf(t, r))
	await(t, fmt.Sprintf("%s version %d comes", r.Service, r.Version), func() bool {
		m, ok := i.last(ConfigPrefix + r.Service)
		return ok && string(m.Payload) == want
	})
	m, _ := i.last(ConfigPrefix + r.Service)
	return m
}

func TestSubscriberFollowsABroker(t *testing.T) {
	gone := record("gone", testEpoch, 4, true)
	src := newSource(record("a", testEpoch, 1, false), gone, record("other", testEpoch, 1, false))
	b := start(t, Options{Source: src})
	url := "mqtt://" + b.Addr().String()
	filters := []string{EpochTopic, ConfigPrefix + "a", ConfigPrefix + "gone"}
	s, in := follows(t, SubscriberOptions{URL: url, Filters: filters})
	m := in.awaits(t, record("a", testEpoch, 1, false))
	if m.Version != 1 || m.Index != 101 || m.Deleted || !m.Described {
		t.Errorf("%+v", m)
	}
	if m := in.awaits(t, gone); m.Version != 4 || !m.Deleted {
		t.Errorf("a deletion: %+v", m)
	}
	for v := uint64(2); v < 50; v++ {
		src.set(record("a", testEpoch, v, false), record("other", testEpoch, v, false))
	}
	in.awaits(t, record("a", testEpoch, 49, false))
	if _, ok := in.last(ConfigPrefix + "other"); ok {
		t.Error("another service came")
	}
	if st := s.Stats(); !st.Connected || !st.MQTT5 || st.Failures != 0 || st.Connects != 1 {
		t.Errorf("%+v", st)
	}
	// Any number of them follow the same topics.
	others := make([]*inbox, 5)
	for i := range others {
		_, others[i] = follows(t, SubscriberOptions{URL: url, Filters: filters})
	}
	for _, o := range others {
		o.awaits(t, record("a", testEpoch, 49, false))
	}
	if st := s.Stats(); st.Connects != 1 {
		t.Errorf("thrown out: %+v", st)
	}
}

// TestSubscriberThroughMosquitto kills the broker, which forgets everything, while a
// publisher keeps it up to date.
func TestSubscriberThroughMosquitto(t *testing.T) {
	m := newMosquitto(t)
	src := newSource(record("a", testEpoch, 1, false))
	publish(t, PublisherOptions{URL: m.url(), Source: src})
	s, in := follows(t, SubscriberOptions{URL: m.url(), Filters: []string{ConfigPrefix + "a"}})
	for v := uint64(2); v < 6; v++ {
		src.set(record("a", testEpoch, v, false))
		if got := in.awaits(t, record("a", testEpoch, v, false)); got.Version != v {
			t.Fatalf("%+v", got)
		}
		failures := s.Stats().Failures
		m.kill()
		await(t, "the subscriber notices", func() bool { return s.Stats().Failures > failures && !s.Stats().Connected })
		m.start()
		await(t, "it is back", func() bool { return s.Stats().Connected })
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.turned[0] != nil || in.turned[1] == nil {
		t.Errorf("it was told %v", in.turned)
	}
}

func TestSubscriberTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	src := newSource(record("a", testEpoch, 1, false))
	b := start(t, Options{Source: src, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	url := "mqtts://" + b.Addr().String()
	_, in := follows(t, SubscriberOptions{URL: url, TLS: &tls.Config{RootCAs: pool}, Filters: []string{ConfigPrefix + "a"}})
	in.awaits(t, record("a", testEpoch, 1, false))
	s, in := follows(t, SubscriberOptions{URL: url, Filters: []string{ConfigPrefix + "a"}}) // trusts the system's CAs
	await(t, "a stranger's certificate is refused", func() bool { return s.Stats().Failures > 1 })
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.got) > 0 || in.turned[0] == nil {
		t.Errorf("it got %v", in.got)
	}
}

// TestSubscriberRefused: what keeps it out is said, and the password is not.
func TestSubscriberRefused(t *testing.T) {
	var log lines
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, nil, 0o644); err != nil { // nobody is known
		t.Fatal(err)
	}
	m := newMosquitto(t, "allow_anonymous false", "user root", "password_file "+users)
	s, in := follows(t, SubscriberOptions{
		URL: "mqtt://someone:hunter2@" + m.addr().String(), Filters: []string{ConfigPrefix + "a"}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	await(t, "it is refused", func() bool { return s.Stats().Failures > 1 })
	in.mu.Lock()
	err := in.turned[0]
	in.mu.Unlock()
	if conf.CodeOf(err) != conf.CodeUnauthenticated || conf.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if text := log.String(); !strings.Contains(text, "user or password") || strings.Contains(text, "hunter2") {
		t.Errorf("log %s", text)
	}
	if _, err := NewSubscriber(SubscriberOptions{URL: "http://u:hunter2@h", Filters: []string{"x"}, Handle: in.handle}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

// TestSubscriberHostileBroker: a broker may send anything, and takes nothing down.
func TestSubscriberHostileBroker(t *testing.T) {
	connack, suback := []byte{0x20, 3, 0, 0, 0}, []byte{0x90, 4, 0, 1, 0, 1}
	good := publishHeader(nil, newMessage(ConfigPrefix+"a", []byte("good"), nil), header{v5: true, qos: 1, id: 9})
	good = append(good, "good"...)
	huge := subscriberPacket + 1
	large := append(appendVarint([]byte{0x32}, huge), make([]byte, huge)...)
	for name, c := range map[string]struct {
		sends []byte
		good  bool
	}{
		"too large, then good":          {append(append(append([]byte{}, suback...), large...), good...), true},
		"good before the SUBACK":        {append(append([]byte{}, good...), suback...), true},
		"refuses the subscription":      {[]byte{0x90, 4, 0, 1, 0, 0x87}, false},
		"grants too little":             {[]byte{0x90, 3, 0, 1, 0}, false},
		"malformed properties":          {append(append([]byte{}, suback...), 0x32, 7, 0, 1, 'a', 0, 1, 0xff, 0xff), false},
		"length without end":            {append(append([]byte{}, suback...), 0x30, 0xff, 0xff, 0xff, 0xff, 0xff), false},
		"a packet of a server's client": {append(append([]byte{}, suback...), 0x10, 2, 0, 0), true},
		"closes":                        {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			t.Cleanup(func() {
				_ = l.Close()
				serving.Wait()
			})
			acked := make(chan packets.Packet, 100)
			serving.Go(func() {
				for {
					nc, err := l.Accept()
					if err != nil {
						return
					}
					_ = nc.SetDeadline(time.Now().Add(patient))
					r := bufio.NewReader(nc)
					if pk, err := readFrom(r, 5); err == nil && pk.FixedHeader.Type == packets.Connect {
						_, _ = nc.Write(connack)
						_, _ = nc.Write(c.sends)
						for c.good {
							pk, err := readFrom(r, 5)
							if err != nil {
								break
							}
							if pk.FixedHeader.Type == packets.Puback {
								acked <- pk
							}
						}
					}
					_ = nc.Close()
				}
			})
			s, in := follows(t, SubscriberOptions{URL: "mqtt://" + l.Addr().String(), Filters: []string{ConfigPrefix + "a"}})
			if !c.good {
				await(t, "it comes again", func() bool { return s.Stats().Failures > 1 })
				return
			}
			await(t, "it stays", func() bool { return s.Stats().Connected })
			if bytes.Contains(c.sends, []byte("good")) {
				if pk := <-acked; pk.PacketID != 9 {
					t.Errorf("acknowledged %d", pk.PacketID)
				}
				if m, ok := in.last(ConfigPrefix + "a"); !ok || string(m.Payload) != "good" || m.Described {
					t.Errorf("%+v", m)
				}
			}
			if want := uint64(bytes.Count(c.sends, large)); s.Stats().TooLarge != want {
				t.Errorf("%+v", s.Stats())
			}
		})
	}
}

// TestSubscriberMQTT311 meets a broker that knows nothing newer.
func TestSubscriberMQTT311(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.SetDeadline(time.Now().Add(patient))
			r := bufio.NewReader(nc)
			pk, err := readFrom(r, 4)
			switch {
			case err != nil:
			case pk.ProtocolVersion == 5:
				_, _ = nc.Write([]byte{0x20, 2, 0, 1})
			default:
				head := publishHeader(nil, newMessage(ConfigPrefix+"a", []byte("good"), nil), header{qos: 1, id: 9})
				_, _ = nc.Write(append(append([]byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 1}, head...), "good"...))
				for err == nil {
					_, err = readFrom(r, 4)
				}
			}
			_ = nc.Close()
		}
	})
	s, in := follows(t, SubscriberOptions{URL: "mqtt://" + l.Addr().String(), Filters: []string{ConfigPrefix + "a"}})
	await(t, "the message", func() bool {
		m, ok := in.last(ConfigPrefix + "a")
		return ok && string(m.Payload) == "good" && !m.Described
	})
	if st := s.Stats(); st.MQTT5 || !st.Connected {
		t.Errorf("%+v", st)
	}
}
