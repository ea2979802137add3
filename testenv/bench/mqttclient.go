package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// mqttClient is just enough of MQTT 3.1.1 to publish, and to read what comes.
type mqttClient struct {
	net.Conn
	r *bufio.Reader
}

const (
	mqttPublish = 3
	mqttPuback  = 4
)

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// packet adds the fixed header.
func packet(first byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...) // the length is a varint of at most four bytes
}

// dialMQTT connects. A keep alive of 0 asks for none.
func dialMQTT(ctx context.Context, addr, id string) (*mqttClient, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &mqttClient{nc, bufio.NewReader(nc)}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = c.Write(packet(0x10, text("MQTT"), []byte{4, 2, 0, 0}, text(id)))
	if err == nil {
		err = c.expect(2)
	}
	_ = c.SetDeadline(time.Time{})
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("connecting to %s: %w", addr, err)
	}
	return c, nil
}

func (c *mqttClient) subscribe(topic string) error {
	if _, err := c.Write(packet(0x82, []byte{0, 1}, text(topic), []byte{1})); err != nil {
		return err
	}
	return c.expect(9)
}

func (c *mqttClient) expect(kind byte) error {
	got, _, err := c.next()
	if err == nil && got != kind {
		err = fmt.Errorf("MQTT packet of type %d, want %d", got, kind)
	}
	return err
}

// next reads one packet. A message is acknowledged, and its payload returned.
func (c *mqttClient) next() (kind byte, payload []byte, err error) {
	first, err := c.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil || n > 1<<20 {
		return 0, nil, fmt.Errorf("MQTT packet of %d bytes, %w", n, err)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return 0, nil, err
	}
	kind = first >> 4
	if kind != mqttPublish || len(body) < 2 {
		return kind, nil, nil
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if first&0x06 == 0 {
		return kind, body[min(at, len(body)):], nil
	}
	if at+2 > len(body) {
		return 0, nil, fmt.Errorf("MQTT message of %d bytes", n)
	}
	_, err = c.Write([]byte{mqttPuback << 4, 2, body[at], body[at+1]})
	return kind, body[at+2:], err
}

// publish sends a retained message with QoS 1, and waits until the broker has it.
func (c *mqttClient) publish(topic string, payload []byte) error {
	if _, err := c.Write(packet(0x33, text(topic), []byte{0, 7}, payload)); err != nil {
		return err
	}
	return c.expect(mqttPuback)
}
