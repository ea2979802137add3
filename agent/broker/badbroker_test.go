package broker

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// badBroker is an outside broker that behaves as badly as a test wants.
type badBroker struct {
	t      testing.TB
	l      net.Listener
	config *tls.Config

	only311        bool
	answer5        []byte // to a CONNECT of MQTT 5, then it closes
	raw            []byte // to any CONNECT
	receiveMaximum uint16
	maxPacket      uint32
	refuse         int // how many publishes of config are refused
	mute, deaf     bool
	user, password string

	mu        sync.Mutex
	published []packets.Packet
	taken     map[string]bool
	open      int
	mostOpen  int
	connects  int
	conns     []net.Conn
	ended     bool
}

func newBadBroker(t testing.TB, set func(*badBroker)) *badBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &badBroker{t: t, l: l, taken: map[string]bool{}}
	if set != nil {
		set(s)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if s.config != nil {
				nc = tls.Server(nc, s.config)
			}
			s.mu.Lock()
			s.conns = append(s.conns, nc)
			ended := s.ended
			s.mu.Unlock()
			if ended {
				_ = nc.Close()
			}
			all.Go(func() {
				defer nc.Close()
				s.serve(nc)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		s.ended = true
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		all.Wait()
	})
	return s
}

func (s *badBroker) addr() net.Addr { return s.l.Addr() }

func (s *badBroker) url(scheme string) string { return scheme + "://" + s.addr().String() }

func (s *badBroker) serve(nc net.Conn) {
	r := bufio.NewReader(nc)
	pk, err := readFrom(r, 4)
	if err != nil || pk.FixedHeader.Type != packets.Connect || s.deaf {
		_, _ = io.Copy(io.Discard, nc)
		return
	}
	v := pk.ProtocolVersion
	switch {
	case s.raw != nil:
		_, _ = nc.Write(s.raw)
		return
	case v == 5 && s.only311:
		_, _ = nc.Write(s.answer5)
		return
	case s.user != "" && (string(pk.Connect.Username) != s.user || string(pk.Connect.Password) != s.password):
		_, _ = nc.Write([]byte{0x20, 3, 0, packets.ErrBadUsernameOrPassword.Code, 0})
		return
	}
	answer := packets.Packet{ProtocolVersion: v, FixedHeader: packets.FixedHeader{Type: packets.Connack}}
	answer.Properties.ReceiveMaximum, answer.Properties.MaximumPacketSize = s.receiveMaximum, s.maxPacket
	var buf bytes.Buffer
	_ = answer.ConnackEncode(&buf)
	_, _ = nc.Write(buf.Bytes())
	s.mu.Lock()
	s.connects++
	s.mu.Unlock()
	acks := make(chan []byte, 1000)
	var writer sync.WaitGroup
	writer.Go(func() { // later than it reads, so that several can be on their way
		for a := range acks {
			s.mu.Lock()
			s.open--
			s.mu.Unlock()
			_, _ = nc.Write(a)
		}
	})
	defer writer.Wait()
	defer close(acks)
	for {
		pk, err := readFrom(r, v)
		if err != nil {
			return
		}
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}
		s.mu.Lock()
		s.open++
		s.mostOpen = max(s.mostOpen, s.open)
		s.published = append(s.published, pk)
		ack := binary.BigEndian.AppendUint16([]byte{0x40, 2}, pk.PacketID)
		if s.refuse > 0 && strings.HasPrefix(pk.TopicName, ConfigPrefix) {
			s.refuse--
			ack = append(ack, packets.ErrQuotaExceeded.Code)
			ack[1] = 3
		} else {
			s.taken[pk.TopicName] = true
		}
		mute := s.mute
		s.mu.Unlock()
		if !mute {
			acks <- ack
		}
	}
}

func readFrom(r *bufio.Reader, v byte) (pk packets.Packet, err error) {
	pk.ProtocolVersion = v
	first, err := r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(r)
	if err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	}
	return pk, err
}

func (s *badBroker) count(topic string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pk := range s.published {
		if pk.TopicName == topic {
			n++
		}
	}
	return n
}

func (s *badBroker) accepted(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[topic]
}

func (s *badBroker) awaitPublish(ok func(packets.Packet) bool) (found packets.Packet) {
	s.t.Helper()
	await(s.t, "the broker gets a publish", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, pk := range s.published {
			if ok(pk) {
				found = pk
				return true
			}
		}
		return false
	})
	return found
}

// proxy is a line that a test cuts and mends.
type proxy struct {
	l  net.Listener
	to net.Addr

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func newProxy(t testing.TB, to net.Addr) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to.String())
			p.mu.Lock()
			if p.down || err != nil {
				_ = in.Close()
				if err == nil {
					_ = out.Close()
				}
				p.mu.Unlock()
				continue
			}
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			pipe := func(dst, src net.Conn) {
				_, _ = io.Copy(dst, src)
				_ = dst.Close()
				_ = src.Close()
			}
			all.Go(func() { pipe(in, out) })
			all.Go(func() { pipe(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		all.Wait()
	})
	return p
}

func (p *proxy) addr() net.Addr { return p.l.Addr() }

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
