package broker

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strconv"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxRejectedPublishes is how many publishes of an MQTT 5 client are answered before it is
// disconnected.
const maxRejectedPublishes = 16

// policy decides what clients may do. It is the only hook: hooks of mochi are OR-ed, so a
// second one could allow what this one denies. Each method runs on the goroutine that reads
// the client's connection.
type policy struct {
	mochi.HookBase
	b *Broker
}

func (*policy) ID() string { return "policy" }

func (*policy) Provides(b byte) bool {
	return slices.Contains([]byte{
		mochi.OnPacketRead, mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnSessionEstablished, mochi.OnACLCheck,
		mochi.OnSubscribed, mochi.OnUnsubscribed, mochi.OnPacketProcessed, mochi.OnPacketEncode,
	}, b)
}

func connOf(cl *mochi.Client) *conn { return cl.Net.Conn.(*conn) }

// OnPacketRead checks each packet before mochi handles it. ErrRejectPacket is the only error
// that ends the connection.
func (p *policy) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c := connOf(cl)
	switch pk.FixedHeader.Type {
	case packets.Connect:
		if !c.established {
			if pk.ProtocolVersion < 5 && pk.Connect.ClientIdentifier == "" && !pk.Connect.Clean { // [MQTT-3.1.3-8] of 3.1.1; mochi answers 0x80
				_ = p.b.server.SendConnack(cl, packets.Err3ClientIdentifierNotValid, false, nil)
				return pk, p.reject(c, cl, ReasonMalformed, packets.ErrClientIdentifierNotValid)
			}
			p.rewriteConnect(c, &pk)
		}
	case packets.Publish:
		return p.rejectPublish(c, cl, pk)
	case packets.Puback:
		c.queue.ack(pk.PacketID)
	case packets.Subscribe:
		if c.queue.countWith(pk.Filters) > p.b.o.Limits.Filters {
			return pk, p.reject(c, cl, ReasonQuota, packets.ErrQuotaExceeded)
		}
	case packets.Unsubscribe, packets.Pingreq, packets.Disconnect:
	default: // no client sends this
		return pk, p.reject(c, cl, ReasonMalformed, packets.ErrProtocolViolation)
	}
	return pk, nil
}

// rewriteConnect removes from a CONNECT what a subscriber does not need. Sessions are clean, and
// each client gets a client id of the broker, so no client can take over the session of
// another.
func (p *policy) rewriteConnect(c *conn, pk *packets.Packet) {
	c.v5 = pk.ProtocolVersion == 5
	c.queue.v5 = c.v5
	c.queue.window = p.b.o.Limits.Window
	if c.v5 {
		if n := int(pk.Properties.ReceiveMaximum); n > 0 {
			c.queue.window = min(c.queue.window, n)
		}
		c.queue.maxSize = int(pk.Properties.MaximumPacketSize)
	}
	if pk.Connect.ClientIdentifier != "" {
		pk.Connect.ClientIdentifier = "client-" + strconv.FormatUint(p.b.ids.Add(1), 10)
		pk.Connect.Clean = true
	} else {
		pk.Connect.Clean = true
	}
	c.keepAlive = time.Duration(pk.Connect.Keepalive) * time.Second * 3 / 2
	pk.Properties.User = nil
	pk.Properties.TopicAliasMaximum = 0
	pk.Properties.ReceiveMaximum = 0
}

// rejectPublish rejects a publish: with MQTT 5 and QoS 1 or 2 mochi sends the reason; otherwise
// the connection ends.
func (p *policy) rejectPublish(c *conn, cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c.publishes++
	if c.v5 && pk.FixedHeader.Qos > 0 && pk.PacketID != 0 && c.publishes <= maxRejectedPublishes {
		p.b.counters.reject(ReasonPublish)
		pk.TopicName, pk.Payload, pk.Properties = HealthTopic, nil, packets.Properties{}
		return pk, nil // OnACLCheck denies it
	}
	return pk, p.reject(c, cl, ReasonPublish, packets.ErrNotAuthorized)
}

// reject ends a connection, with the reason if the protocol has one.
func (p *policy) reject(c *conn, cl *mochi.Client, r Reason, code packets.Code) error {
	c.reject(r)
	_ = p.b.server.DisconnectClient(cl, code)
	return packets.ErrRejectPacket
}

// ownBrokerReason is how the broker of an agent tells a publisher, which has a Will, what
// it is: else MQTT_URL with its address looks like a wrong password.
const ownBrokerReason = "this is the broker of a Holdfast agent, which accepts no publisher"

// OnConnect rejects a Will, which mochi would publish in spite of the write ACL
// (mochi-mqtt/server#503), and extended authentication. mochi sends no CONNACK for an error
// of this hook.
func (p *policy) OnConnect(cl *mochi.Client, pk packets.Packet) error {
	c := connOf(cl)
	code := packets.CodeSuccess
	switch {
	case pk.Connect.WillFlag:
		code = packets.Code{Code: packets.ErrNotAuthorized.Code, Reason: ownBrokerReason}
		c.reject(ReasonWill)
	case pk.Properties.AuthenticationMethod != "":
		code = packets.ErrBadAuthenticationMethod
		c.reject(ReasonCredentials)
	}
	if code != packets.CodeSuccess {
		cl.Properties.Will = mochi.Will{}
		if !c.v5 {
			code = packets.Err3NotAuthorized
		}
		_ = p.b.server.SendConnack(cl, code, false, nil)
		return code
	}
	p.b.setClient(c, cl)
	return nil
}

// OnConnectAuthenticate compares in constant time. Without credentials in the options all
// clients may subscribe, with any user name.
func (p *policy) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	if p.b.o.User == "" && p.b.o.Password == "" {
		return true
	}
	same := func(got []byte, want string) int {
		a, b := sha256.Sum256(got), sha256.Sum256([]byte(want))
		return subtle.ConstantTimeCompare(a[:], b[:])
	}
	ok := same(pk.Connect.Username, p.b.o.User)&same(pk.Connect.Password, p.b.o.Password) == 1
	if !ok {
		connOf(cl).reject(ReasonCredentials)
	}
	return ok
}

// OnSessionEstablished runs after the CONNACK.
func (p *policy) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	c := connOf(cl)
	c.established = true
	p.b.startWriter(c)
}

// OnACLCheck denies all publishing, and all filters that are not below system/.
func (p *policy) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	if write {
		return false
	}
	if !allowedFilter(topic) {
		p.b.counters.reject(ReasonFilter)
		return false
	}
	return true
}

// OnSubscribed adds the granted filters. From then on messages are queued, but none is sent
// before the SUBACK, which mochi writes next.
func (p *policy) OnSubscribed(cl *mochi.Client, pk packets.Packet, codes []byte) {
	var granted []packets.Subscription
	for i, s := range pk.Filters {
		if codes[i] < packets.ErrUnspecifiedError.Code {
			granted = append(granted, s)
		}
	}
	p.b.subscribe(connOf(cl), granted)
}

// OnPacketProcessed runs after the response to a packet.
func (p *policy) OnPacketProcessed(cl *mochi.Client, pk packets.Packet, err error) {
	if err == nil && pk.FixedHeader.Type == packets.Subscribe {
		connOf(cl).queue.resume()
	}
}

// OnUnsubscribed runs before the UNSUBACK, and once more when a connection ends.
func (p *policy) OnUnsubscribed(cl *mochi.Client, pk packets.Packet) {
	p.b.unsubscribe(connOf(cl), pk.Filters)
}

// OnPacketEncode adds the limits of this broker to CONNACK.
func (p *policy) OnPacketEncode(_ *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack {
		pk.Properties.MaximumPacketSize = uint32(p.b.o.Limits.Packet)
		pk.Properties.SharedSubAvailable, pk.Properties.SharedSubAvailableFlag = 0, true
	}
	return pk
}
