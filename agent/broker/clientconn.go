package broker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	publisherPacket    = 64 << 10 // largest packet that is taken from an outside broker
	clientWindow       = 64       // publishes on their way
	publisherKeepAlive = 10 * time.Second
)

// errProtocol means that the broker does not support the requested version.
var errProtocol = errors.New("the broker does not speak this version of MQTT")

// errNoConnack means that the broker closed the connection instead of sending CONNACK.
var errNoConnack = errors.New("the broker closed the connection before it answered CONNECT")

// ack is one PUBACK.
type ack struct {
	id   uint16
	code byte
}

// clientConn is one connection to an external broker, of a Publisher or a Subscriber. One
// goroutine writes, its own goroutine reads. It uses MQTT 5, because 3.1.1 has no user
// properties; 3.1.1 if the broker has only that.
type clientConn struct {
	nc        net.Conn
	r         *bufio.Reader
	v5        bool
	qos       byte
	window    int
	maxSize   int
	keepAlive time.Duration
	timeout   time.Duration // of a write; guarded by deadlineMu after the CONNECT
	limit     int           // of a packet that the broker sends

	acks       chan ack
	in         chan packets.Packet // of a Subscriber: PUBLISH and SUBACK
	onTooLarge func()              // of a Subscriber: a PUBLISH over the limit was skipped
	closing    chan struct{}       // closed by close
	ended      chan struct{}       // closed when reading has ended; then err is set
	err        error
	lastRead   atomic.Int64 // time of the last read, Unix nanoseconds
	lastWrite  time.Time    // of the writing goroutine
	deadlineMu sync.Mutex   // of the deadline of writes
}

// sendConnect sends CONNECT and reads CONNACK.
func (u *clientConn) sendConnect(d *connector, will *message) error {
	version := byte(4)
	if u.v5 {
		version = 5
	}
	pk := packets.Packet{
		ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: uint16(u.keepAlive / time.Second), ClientIdentifier: d.clientID,
		},
		Properties: packets.Properties{MaximumPacketSize: uint32(u.limit), ReceiveMaximum: clientWindow},
	}
	if will != nil {
		pk.Connect.WillFlag, pk.Connect.WillQos, pk.Connect.WillRetain = true, 1, true
		pk.Connect.WillTopic, pk.Connect.WillPayload = will.topic, will.payload
	}
	if d.user != nil {
		pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(*d.user)
	}
	if d.password != nil {
		pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte(*d.password)
	}
	var buf bytes.Buffer
	if err := pk.ConnectEncode(&buf); err != nil {
		return err
	}
	if _, err := u.nc.Write(buf.Bytes()); err != nil {
		return err
	}
	answer, err := u.packet()
	if errors.Is(err, io.EOF) {
		return errNoConnack
	}
	if err != nil {
		return err
	}
	if answer.FixedHeader.Type != packets.Connack {
		return errors.New("the broker's first packet is not a CONNACK")
	}
	return u.applyConnack(&answer)
}

// applyConnack applies the limits of the broker.
func (u *clientConn) applyConnack(answer *packets.Packet) error {
	unsupported, credentials := byte(1), []byte{4, 5}
	if u.v5 {
		unsupported, credentials = packets.ErrUnsupportedProtocolVersion.Code,
			[]byte{packets.ErrBadUsernameOrPassword.Code, packets.ErrNotAuthorized.Code}
	}
	switch code := answer.ReasonCode; {
	case code == 0:
	case answer.Properties.ReasonString == ownBrokerReason:
		return conf.Errorf(conf.CodeUsage, "the broker that MQTT_URL names is the one of a Holdfast agent, which accepts no publisher").
			WithHint("MQTT_URL is for a broker of your own; without one remove it: services subscribe at the broker of their agent")
	case code == unsupported, code == 1: // a 3.1.1 broker answers version 5 with 1
		return errProtocol
	case bytes.IndexByte(credentials, code) >= 0:
		return conf.Errorf(conf.CodeUnauthenticated, "the broker refuses this user or password").
			WithHint("check the user and the password of MQTT_URL")
	default:
		return fmt.Errorf("the broker rejects the connection with reason %#02x", code)
	}
	if !u.v5 {
		return nil
	}
	p := answer.Properties
	if u.in == nil && p.RetainAvailableFlag && p.RetainAvailable == 0 {
		return conf.Errorf(conf.CodeUnsupported, "the broker does not retain messages").WithHint("enable retained messages in the broker")
	}
	if p.MaximumQosFlag {
		u.qos = min(u.qos, p.MaximumQos)
	}
	if n := int(p.ReceiveMaximum); n > 0 {
		u.window = min(u.window, n)
	}
	if p.ServerKeepAliveFlag && p.ServerKeepAlive > 0 {
		u.keepAlive = time.Duration(p.ServerKeepAlive) * time.Second
	}
	u.maxSize = int(p.MaximumPacketSize)
	return nil
}

// read reads packets until the connection ends.
func (u *clientConn) read() {
	defer close(u.ended)
	for {
		pk, err := u.packet()
		if err != nil {
			u.err = err
			return
		}
		u.lastRead.Store(time.Now().UnixNano())
		switch pk.FixedHeader.Type {
		case packets.Publish, packets.Suback:
			if u.in == nil {
				continue
			}
			select {
			case u.in <- pk:
			case <-u.closing:
				u.err = net.ErrClosed
				return
			}
		case packets.Puback:
			// acks has room for all messages in flight; more acknowledgements are dropped.
			select {
			case u.acks <- ack{pk.PacketID, pk.ReasonCode}:
			default:
			}
		case packets.Disconnect:
			u.err = fmt.Errorf("the broker disconnects with reason %#02x", pk.ReasonCode)
			if pk.ReasonCode == packets.ErrSessionTakenOver.Code {
				u.err = errTakenOver
			}
			return
		}
	}
}

// packet reads one packet. The decoders of mochi panic on some malformed packets.
func (u *clientConn) packet() (pk packets.Packet, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed packet: %v", r)
		}
	}()
	first, err := u.r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(u.r)
	if err != nil {
		return pk, err
	}
	if n > u.limit {
		if pk.FixedHeader.Type != packets.Publish || u.onTooLarge == nil {
			return pk, fmt.Errorf("packet of %d bytes", n)
		}
		u.onTooLarge()
		pk.FixedHeader.Type = packets.Reserved // ignored by read
		_, err := io.CopyN(io.Discard, u.r, int64(n))
		return pk, err
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	if _, err := io.ReadFull(u.r, body); err != nil {
		return pk, err
	}
	if u.v5 {
		pk.ProtocolVersion = 5
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if u.v5 && n == 2 { // the CONNACK of a 3.1.1 broker has no properties
			pk.ReasonCode = body[1]
			return pk, nil
		}
		err = pk.ConnackDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// write sends whole packets.
func (u *clientConn) write(bufs net.Buffers) error {
	u.lastWrite = time.Now()
	u.deadlineMu.Lock()
	_ = u.nc.SetWriteDeadline(u.lastWrite.Add(u.timeout))
	u.deadlineMu.Unlock()
	_, err := bufs.WriteTo(u.nc)
	return err
}

// fits reports whether m is within the broker's packet limit.
func (u *clientConn) fits(m *message, head []byte) bool {
	return u.maxSize == 0 || len(head)+len(m.payload) <= u.maxSize
}

// ping keeps the connection alive, and fails if the broker is silent.
func (u *clientConn) ping(now time.Time) error {
	if silent := now.Sub(time.Unix(0, u.lastRead.Load())); silent > u.keepAlive*3/2 {
		return fmt.Errorf("no packet from the broker for %s", silent.Round(time.Second))
	}
	// Also while messages are sent: only a response shows that the broker is alive.
	if now.Sub(time.Unix(0, u.lastRead.Load())) >= u.keepAlive/2 || now.Sub(u.lastWrite) >= u.keepAlive/2 {
		return u.write(net.Buffers{{packets.Pingreq << 4, 0}})
	}
	return nil
}

// disconnect ends the connection; the broker discards the Will.
// hurryWhen lets a broker that does not read hold up a write only for disconnectTimeout once ctx
// has ended. The caller calls the returned function when it writes no more.
func (u *clientConn) hurryWhen(ctx context.Context) (release func() bool) {
	return context.AfterFunc(ctx, func() {
		u.deadlineMu.Lock()
		defer u.deadlineMu.Unlock()
		u.timeout = min(u.timeout, disconnectTimeout)
		_ = u.nc.SetWriteDeadline(time.Now().Add(disconnectTimeout))
	})
}

func (u *clientConn) disconnect() {
	_ = u.write(net.Buffers{{packets.Disconnect << 4, 0}})
	u.close()
}

func (u *clientConn) close() {
	close(u.closing)
	_ = u.nc.Close()
	<-u.ended
}
