package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const (
	subscriberPacket    = seal.MaxUpdate + 64<<10 // largest packet that is accepted
	subscriberKeepAlive = 30 * time.Second
)

// Message is one message from a broker. Only the signed payload can be trusted.
type Message struct {
	Topic   string
	Payload []byte
	// From the user properties; zero without them, as in MQTT 3.1.1.
	Version, Index uint64
	Deleted        bool
	Described      bool // there is a config-version

	VersionSignature string
	Channel          string // of what an agent serves alone; empty for what is stable
}

// SubscriberOptions of a Subscriber. URL, Filters and Handle are required.
type SubscriberOptions struct {
	URL     string      // mqtt://user:password@host:1883 or mqtts://...
	TLS     *tls.Config // for mqtts; nil: the roots of the system
	Filters []string
	// Handle receives every message. Run calls it on its own goroutine, and waits for
	// it.
	Handle func(Message)
	// OnState is called on Run's goroutine when the subscriptions are granted (nil), and when
	// the connection fails or ends. It may be nil.
	OnState    func(error)
	Logger     *slog.Logger
	Timeout    time.Duration // to connect and subscribe, default 10s
	MinBackoff time.Duration // default 200ms
	MaxBackoff time.Duration // default 10s
}

// SubscriberStats are the counters of a Subscriber.
type SubscriberStats struct {
	Connected bool
	MQTT5     bool
	Received  uint64 // messages
	TooLarge  uint64 // messages that were skipped
	Connects  uint64
	Failures  uint64 // connections that failed or broke
}

// Subscriber follows topics of a broker: the embedded one of another agent, or an external
// one. Its MQTT sessions are clean and its client id is unique, so any number of them can
// follow the same topics. Make it with NewSubscriber, then call Run once.
type Subscriber struct {
	connector
	o   SubscriberOptions
	out outbox

	received, tooLarge atomic.Uint64
}

// NewSubscriber checks the options. Its errors do not hold the URL.
func NewSubscriber(o SubscriberOptions) (*Subscriber, error) {
	t, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if len(o.Filters) == 0 || o.Handle == nil {
		return nil, conf.Errorf(conf.CodeUsage, "the MQTT subscriber needs Filters and Handle")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.MinBackoff, 200*time.Millisecond)
	setDefault(&o.MaxBackoff, 10*time.Second)
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails (Go 1.24)
	s := &Subscriber{o: o, out: newOutbox(), connector: connector{
		log: o.Logger.With("broker", t.addr), target: t, config: t.tlsConfig(o.TLS), clientID: "hf-obs-" + hex.EncodeToString(id),
		timeout: o.Timeout, keepAlive: subscriberKeepAlive, limit: subscriberPacket,
	}}
	s.onTooLarge = func() { s.tooLarge.Add(1) }
	return s, nil
}

// Addr returns the address of the broker, host:port.
func (s *Subscriber) Addr() string { return s.addr }

// Stats returns the counters of the subscriber.
func (s *Subscriber) Stats() SubscriberStats {
	return SubscriberStats{
		Connected: s.connected.Load(), MQTT5: s.mqtt5.Load(), Received: s.received.Load(), TooLarge: s.tooLarge.Load(),
		Connects: s.connects.Load(), Failures: s.failures.Load(),
	}
}

// Run follows until ctx ends; it reconnects when a connection ends.
func (s *Subscriber) Run(ctx context.Context) {
	for attempts := 1; ctx.Err() == nil; attempts++ {
		settled, err := s.subscribeOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		s.failures.Add(1)
		if settled {
			attempts = 1
		}
		if s.o.OnState != nil {
			s.o.OnState(err)
		}
		delay := backoff(attempts, s.o.MinBackoff, s.o.MaxBackoff)
		s.report("not connected to the MQTT broker", err, delay)
		pause := time.NewTimer(delay)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// subscribeOnce runs one connection. settled reports whether the subscriptions were granted.
func (s *Subscriber) subscribeOnce(ctx context.Context) (settled bool, err error) {
	u, err := s.connect(ctx, nil)
	if err != nil {
		return false, err
	}
	defer u.hurryWhen(ctx)()
	defer s.connected.Store(false)
	if err := u.subscribe(s.o.Filters); err != nil {
		u.close()
		return false, err
	}
	deadline := time.NewTimer(s.o.Timeout) // for the SUBACK
	defer deadline.Stop()
	pulse := time.NewTicker(u.keepAlive / 4)
	defer pulse.Stop()
	for {
		select {
		case <-ctx.Done():
			u.disconnect()
			return settled, ctx.Err()
		case pk := <-u.in:
			if pk.FixedHeader.Type == packets.Suback {
				if err = s.checkSuback(pk.ReasonCodes); err == nil && !settled {
					settled = true
					deadline.Stop()
					s.warned = time.Time{}
					s.connected.Store(true)
					s.log.Info("following the MQTT broker", "mqtt5", u.v5, "topics", s.o.Filters)
					if s.o.OnState != nil {
						s.o.OnState(nil)
					}
					s.out.again()
				}
			} else {
				err = s.deliver(u, &pk)
			}
		case <-s.out.news:
			if settled { // else again sends it
				err = s.out.send(u)
			}
		case a := <-u.acks:
			if a.code >= 0x80 && s.out.reject() {
				s.log.Info("the broker takes no reports of instances: this one is not shown, unless it reports to a member", "topic", AckPrefix+"#", "reason", fmt.Sprintf("%#02x", a.code))
			}
		case <-u.ended:
			if err = u.err; errors.Is(err, net.ErrClosed) || err == nil {
				err = errors.New("the broker closed the connection")
			}
		case <-deadline.C:
			err = fmt.Errorf("the broker has not granted the subscription within %s", s.o.Timeout)
		case now := <-pulse.C:
			err = u.ping(now)
		}
		if err != nil {
			u.close()
			return settled, err
		}
	}
}

func (u *clientConn) subscribe(filters []string) error {
	pk := packets.Packet{ProtocolVersion: 4, FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1}
	if u.v5 {
		pk.ProtocolVersion = 5
	}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	var buf bytes.Buffer
	if err := pk.SubscribeEncode(&buf); err != nil {
		return err
	}
	return u.write(net.Buffers{buf.Bytes()})
}

// checkSuback checks a SUBACK. A rejected topic of a service is an error; other topics are
// optional.
func (s *Subscriber) checkSuback(codes []byte) error {
	for i, f := range s.o.Filters {
		if i < len(codes) && codes[i] < 0x80 {
			continue
		}
		if strings.HasPrefix(f, ConfigPrefix) {
			return conf.Errorf(conf.CodeDenied, "the broker rejects a subscription to %s", f).
				WithHint("give the user of the MQTT URL read access: pattern read system/# in Mosquitto's acl_file")
		}
		s.log.Warn("the broker rejects a subscription", "topic", f)
	}
	return nil
}

// deliver calls Handle with a message, then acknowledges it.
func (s *Subscriber) deliver(u *clientConn, pk *packets.Packet) error {
	s.received.Add(1)
	m := Message{Topic: pk.TopicName, Payload: pk.Payload}
	for _, p := range pk.Properties.User {
		n, err := strconv.ParseUint(p.Val, 10, 53)
		switch {
		case p.Key == "config-version" && err == nil && n > 0:
			m.Version, m.Described = n, true
		case p.Key == "config-index" && err == nil:
			m.Index = n
		case p.Key == "version-signature":
			m.VersionSignature = p.Val
		case p.Key == "config-channel":
			m.Channel = p.Val
		case p.Key == "config-deleted":
			m.Deleted = p.Val == "true"
		}
	}
	s.o.Handle(m)
	if pk.FixedHeader.Qos == 0 {
		return nil
	}
	return u.write(net.Buffers{binary.BigEndian.AppendUint16([]byte{packets.Puback << 4, 2}, pk.PacketID)})
}
