package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// connector makes the connections of a Publisher or a Subscriber, one after the other,
// on the goroutine of its Run.
type connector struct {
	target
	log        *slog.Logger
	config     *tls.Config
	clientID   string
	timeout    time.Duration
	keepAlive  time.Duration
	limit      int    // of a packet from the broker
	onTooLarge func() // of a Subscriber: a PUBLISH over the limit was skipped; else nil

	next311   bool // the next connection uses MQTT 3.1.1
	noConnack int  // connections in a row that ended before CONNACK
	warned    time.Time

	connected, mqtt5   atomic.Bool
	connects, failures atomic.Uint64
}

// connect makes one connection. will is the message that the broker publishes when it ends
// without a DISCONNECT, nil for none. It uses MQTT 5, and 3.1.1 after an attempt that
// showed that the broker does not support 5.
func (d *connector) connect(ctx context.Context, will *message) (*clientConn, error) {
	v5 := !d.next311
	d.next311 = false
	c, err := d.dial(ctx, v5, will)
	switch {
	case err == nil:
		d.noConnack = 0
		d.connects.Add(1)
		d.mqtt5.Store(v5)
	case errors.Is(err, errProtocol) && v5:
		d.next311 = true
	case errors.Is(err, errNoConnack) && v5:
		// A broker that is starting does so too: one that does it three times may be too
		// old for an answer.
		if d.noConnack++; d.noConnack >= 3 {
			d.noConnack, d.next311 = 0, true
		}
	}
	return c, err
}

func (d *connector) dial(ctx context.Context, v5 bool, will *message) (*clientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	if d.tls {
		nc = tls.Client(nc, d.config)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	c := &clientConn{
		nc: nc, r: bufio.NewReader(nc), v5: v5, qos: 1, window: clientWindow, keepAlive: d.keepAlive, timeout: d.timeout,
		limit: d.limit, onTooLarge: d.onTooLarge, acks: make(chan ack, clientWindow), ended: make(chan struct{}), closing: make(chan struct{}),
	}
	if d.onTooLarge != nil {
		c.in = make(chan packets.Packet, clientWindow)
	}
	err = c.sendConnect(d, will)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	c.lastRead.Store(time.Now().UnixNano())
	go c.read()
	return c, nil
}

// report logs a failed connection: the first one after a success at level warn, then one a
// minute.
func (d *connector) report(text string, err error, delay time.Duration) {
	level := slog.LevelDebug
	if now := time.Now(); now.Sub(d.warned) > time.Minute {
		level, d.warned = slog.LevelWarn, now
	}
	d.log.Log(context.Background(), level, text, "err", err, "hint", conf.HintOf(err), "retry_in", delay)
}

// backoff doubles with each attempt. The jitter keeps hundreds of subscribers, or two agents
// that both consider themselves the leader, from connecting at the same time.
func backoff(attempts int, least, most time.Duration) time.Duration {
	d := most
	if attempts < 16 {
		d = min(d, least<<(attempts-1))
	}
	return d/2 + rand.N(d/2+1)
}
