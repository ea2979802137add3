package broker

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestURLOfAnAgentsBroker points MQTT_URL at the broker of an agent, with and without
// the credentials that it asks for.
func TestURLOfAnAgentsBroker(t *testing.T) {
	src := newSource(record("a", testEpoch, 1, false))
	for name, o := range map[string]Options{"open": {Source: src}, "with credentials": {Source: src, User: "u", Password: "p"}} {
		for _, who := range []string{"", "u:p@", "u:wrong@"} {
			var log lines
			b := start(t, o)
			p, stop := publish(t, PublisherOptions{URL: "mqtt://" + who + b.Addr().String(), Source: src, Logger: log.logger()})
			await(t, "refused", func() bool { return p.Stats().Failures > 0 && strings.Contains(log.String(), "not connected") })
			stop()
			if text := log.String(); !strings.Contains(text, "the one of a Holdfast agent") || strings.Contains(text, "user or password") {
				t.Errorf("%s, %q: log:\n%s", name, who, text)
			}
		}
	}
}

// TestEmptyClientID is MQTT 3.1.1, 3.1.3.1: a client without an id must ask for a clean
// session, else the broker answers 0x02 and closes. With MQTT 5 it may leave that out.
func TestEmptyClientID(t *testing.T) {
	b := start(t, Options{Source: newSource()})
	for _, tc := range []struct {
		version byte
		clean   bool
		code    byte
	}{{4, false, 2}, {4, true, 0}, {5, false, 0}, {5, true, 0}} {
		pk := connectPacket(tc.version, "")
		pk.Connect.Clean = tc.clean
		c := dial(t, b.Addr(), tc.version)
		c.send(pk)
		answer, err := c.next()
		if err != nil || answer.FixedHeader.Type != packets.Connack || answer.ReasonCode != tc.code {
			t.Errorf("version %d, clean %t: type %v, reason %#x, %v; want reason %#x", tc.version, tc.clean, answer.FixedHeader.Type, answer.ReasonCode, err, tc.code)
		}
		if tc.code != 0 {
			if _, err := c.next(); err == nil {
				t.Errorf("version %d, clean %t: the connection stays open", tc.version, tc.clean)
			}
		}
	}
}
