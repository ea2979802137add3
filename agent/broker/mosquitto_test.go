package broker

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// need finds a program; without it the test is skipped for a person, and fails in CI.
func need(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(path); err != nil {
			base.Missing(t, "%s is missing: install the package %s", name, pkg)
		}
	}
	return path
}

// mosquitto is a real broker that a test kills and starts again on one port. It
// keeps nothing on disk: killed, it forgets all that was retained.
type mosquitto struct {
	t    testing.TB
	bin  string
	conf string
	port int
	cmd  *exec.Cmd
}

func newMosquitto(t testing.TB, more ...string) *mosquitto {
	t.Helper()
	bin := need(t, "mosquitto", "mosquitto")
	m := &mosquitto{t: t, bin: bin, port: base.FreePorts(t, 1)[0], conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	text := append([]string{
		"listener " + strconv.Itoa(m.port) + " 127.0.0.1", "persistence false", "max_queued_messages 0", "max_inflight_messages 0",
		"set_tcp_nodelay true",
	}, more...)
	if !slices.ContainsFunc(more, func(l string) bool { return strings.HasPrefix(l, "allow_anonymous") }) {
		text = append(text, "allow_anonymous true")
	}
	if err := os.WriteFile(m.conf, []byte(strings.Join(text, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	m.start()
	return m
}

func (m *mosquitto) addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: m.port} }

func (m *mosquitto) url() string { return "mqtt://" + m.addr().String() }

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.bin, "-c", m.conf)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	await(m.t, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", m.addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// kill is SIGKILL: no DISCONNECT, no last word.
func (m *mosquitto) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// outside waits until a broker retains exactly the newest of src.
func outside(t testing.TB, addr net.Addr, src *fakeSource) {
	t.Helper()
	var wrong string
	defer func() {
		if t.Failed() {
			t.Log(wrong)
		}
	}()
	await(t, "the newest of everything is retained", func() bool {
		want, got := src.newest(t), retainedNow(t, addr, "system/config/#")
		wrong = fmt.Sprintf("%d topics, want %d", len(got), len(want))
		for topic, payload := range want {
			if got[topic] != payload {
				wrong = fmt.Sprintf("%s is %s, want %s", topic, got[topic], payload)
				return false
			}
		}
		return len(got) == len(want)
	})
}

// retainedNow reads what Mosquitto retains: it answers a ping after that.
func retainedNow(t testing.TB, addr net.Addr, filter string) map[string]string {
	t.Helper()
	c := dial(t, addr, 5)
	c.connect("")
	c.subscribe(1, filter)
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	out := map[string]string{}
	for {
		pk, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		switch pk.FixedHeader.Type {
		case packets.Publish:
			if pk.FixedHeader.Retain {
				out[pk.TopicName] = string(pk.Payload)
			}
		case packets.Pingresp:
			_ = c.nc.Close()
			return out
		}
	}
}

func TestPublishesToMosquitto(t *testing.T) {
	m := newMosquitto(t)
	src := newSource(record("a", testEpoch, 1, false), record("gone", testEpoch, 4, true), &conf.Record{Service: "unset"})
	delete(src.records, "unset")
	p, stop := publish(t, PublisherOptions{URL: m.url(), Source: src})
	settled(t, p, 3)
	outside(t, m.addr(), src)
	if !p.Stats().MQTT5 {
		t.Fatal("not MQTT 5")
	}
	pk := retained(t, m.addr(), 5, "system/config/a", 1)["system/config/a"]
	if len(pk.Properties.User) != 3 || pk.Properties.User[0] != (packets.UserProperty{Key: "config-version", Val: "1"}) {
		t.Fatalf("user properties %v", pk.Properties.User)
	}
	src.set(record("a", testEpoch, 2, false), record("b", testEpoch, 1, false))
	settled(t, p, 5)
	outside(t, m.addr(), src)

	// Another epoch: what is not in it any more is taken away.
	src.restart("6ba7b810-9dad-11d1-80b4-00c04fd430c8", record("a", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 1, false))
	settled(t, p, 8)
	outside(t, m.addr(), src)

	stop()
	if event := eventOf(t, retained(t, m.addr(), 4, HealthTopic, 1)[HealthTopic]); event != EventLeaderStopped {
		t.Fatalf("after an orderly stop: %q", event)
	}
	outside(t, m.addr(), src)
}

// TestMosquittoKilledAndRestarted kills the broker again and again while services
// change. It forgets everything each time, and has the newest of everything in the end.
func TestMosquittoKilledAndRestarted(t *testing.T) {
	m := newMosquitto(t)
	const services = 200
	src := newSource()
	for i := range services {
		src.set(record(fmt.Sprintf("s%d", i), testEpoch, 1, false))
	}
	p, _ := publish(t, PublisherOptions{URL: m.url(), Source: src})
	settled(t, p, services)
	ctx, cancel := context.WithCancel(t.Context())
	var edits sync.WaitGroup
	changes := 0
	edits.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for v := uint64(2); ; v++ {
			src.set(record(fmt.Sprintf("s%d", int(v)%services), testEpoch, v, false))
			changes++
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	const kills = 8
	for i := range kills {
		before := p.Stats()
		m.kill()
		await(t, "the publisher notices", func() bool { return p.Stats().Failures > before.Failures })
		m.start()
		if i%2 == 0 { // every other time it is killed while everything is being published again
			settled(t, p, before.Published+services)
		} else {
			await(t, "the publisher is back", func() bool { return p.Stats().Connects > before.Connects })
		}
	}
	cancel()
	edits.Wait()
	settled(t, p, 0)
	await(t, "the last change is out", func() bool { s := p.Stats(); return s.Connected && s.Pending == 0 })
	src.set(record("last", testEpoch, 1, false))
	settled(t, p, p.Stats().Published+1)
	outside(t, m.addr(), src)
	s := p.Stats()
	t.Logf("%d kills, %d changes, %+v", kills, changes, s)
	if s.Connects < kills || changes < 100 {
		t.Fatalf("too little happened: %+v, %d changes", s, changes)
	}
}

// TestLeaderChange moves the leadership between two agents while services change
// and the broker is killed: no gap, and nobody publishes who does not lead.
func TestLeaderChange(t *testing.T) {
	m := newMosquitto(t)
	src := newSource(record("a", testEpoch, 1, false))
	l := [2]*lead{leads(false), leads(false)}
	var p [2]*Publisher
	for i := range p {
		p[i], _ = publish(t, PublisherOptions{URL: m.url(), Source: src, Leading: l[i].get})
	}
	version := uint64(1)
	change := func() {
		version++
		src.set(record("a", testEpoch, version, false), record(fmt.Sprintf("s%d", version), testEpoch, version, false))
	}
	for round := range 6 {
		now, other := round%2, 1-round%2
		change() // nobody leads
		l[now].set(true)
		change()
		await(t, "the leader has published everything", func() bool {
			s := p[now].Stats()
			return s.Connected && s.Pending == 0
		})
		if p[other].Stats().Connected {
			t.Fatal("a follower is connected")
		}
		if round == 3 {
			failures := p[now].Stats().Failures
			m.kill()
			await(t, "the leader notices", func() bool { return p[now].Stats().Failures > failures })
			m.start()
		}
		settled(t, p[now], 1)
		outside(t, m.addr(), src)
		l[now].set(false)
		change()
		await(t, "the old leader has gone", func() bool { return !p[now].Stats().Connected })
		if event := eventOf(t, retained(t, m.addr(), 5, HealthTopic, 1)[HealthTopic]); event != "" {
			t.Fatalf("an orderly change of leaders says %q", event)
		}
	}
	l[0].set(true)
	await(t, "all is out", func() bool { s := p[0].Stats(); return s.Connected && s.Pending == 0 && s.Published > uint64(version) })
	outside(t, m.addr(), src)
}

// TestDeposedLeaderIsCutOff has two agents that both believe to lead: the one
// that connects last wins, and the broker ends with its state.
func TestDeposedLeaderIsCutOff(t *testing.T) {
	m := newMosquitto(t)
	old, fresh := newSource(record("a", testEpoch, 1, false)), newSource(record("a", testEpoch, 2, false))
	lo, lf := leads(true), leads(false)
	po, _ := publish(t, PublisherOptions{URL: m.url(), Source: old, Leading: lo.get})
	settled(t, po, 2)
	pf, _ := publish(t, PublisherOptions{URL: m.url(), Source: fresh, Leading: lf.get})
	lf.set(true)
	await(t, "the old leader is thrown out", func() bool { return po.Stats().Failures > 0 })
	lo.set(false)
	await(t, "the new leader is settled", func() bool {
		s := pf.Stats()
		return s.Connected && s.Pending == 0 && !po.Stats().Connected
	})
	outside(t, m.addr(), fresh)
	await(t, "health is that of the new leader", func() bool {
		return eventOf(t, retained(t, m.addr(), 5, HealthTopic, 1)[HealthTopic]) == ""
	})
}

// TestWillTellsOfADeadLeader cuts the line, as the death of the machine does.
func TestWillTellsOfADeadLeader(t *testing.T) {
	m := newMosquitto(t)
	line := newProxy(t, m.addr())
	src := newSource(record("a", testEpoch, 1, false))
	p, _ := publish(t, PublisherOptions{URL: "mqtt://" + line.addr().String(), Source: src})
	settled(t, p, 2)
	watcher := dial(t, m.addr(), 5)
	watcher.connect("watcher")
	watcher.subscribe(1, HealthTopic)
	if event := eventOf(t, watcher.message()); event != "" {
		t.Fatalf("while it lives: %q", event)
	}
	line.cut()
	if event := eventOf(t, watcher.message()); event != EventLeaderLost {
		t.Fatalf("the Will says %q", event)
	}
	line.mend()
	if event := eventOf(t, watcher.message()); event != "" {
		t.Fatalf("back again it says %q", event)
	}
}
