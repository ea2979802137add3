package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	hfclient "github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const (
	mqttWrites  = 300
	fanSubs     = 1000
	fanRounds   = 40
	mqttPerTurn = 10
)

// mqtt measures the brokers of the agents: beside the HTTP watch of the same agent,
// and beside Mosquitto.
func (b *bench) mqtt() error {
	g, err := startAgents(b, 4, true)
	if err != nil {
		return err
	}
	defer func() {
		for i := range 3 {
			g.kill(i)
		}
	}()
	write, err := b.watchBesideMQTT(g)
	if err != nil {
		return err
	}
	if err := b.sealCost(g, write); err != nil {
		return err
	}
	return b.fanout(g)
}

// marked takes the n out of a message or an event that holds "key_00":n.
func marked(data []byte) (int, bool) {
	_, rest, ok := bytes.Cut(data, []byte(`"key_00":`))
	if !ok {
		return 0, false
	}
	i := bytes.IndexAny(rest, ",}")
	if i < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(rest[:i]))
	return n, err == nil
}

// arrivals notes when each n came.
type arrivals struct {
	mu   sync.Mutex
	at   map[int]time.Time
	news chan struct{}
}

func newArrivals() *arrivals {
	return &arrivals{at: map[int]time.Time{}, news: make(chan struct{}, 1)}
}

func (a *arrivals) came(n int) {
	now := time.Now()
	a.mu.Lock()
	a.at[n] = now
	a.mu.Unlock()
	select {
	case a.news <- struct{}{}:
	default:
	}
}

func (a *arrivals) await(ctx context.Context, n int) (time.Time, error) {
	for {
		a.mu.Lock()
		at, ok := a.at[n]
		a.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-a.news:
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}

// watchBesideMQTT writes at the leader and takes the time from the acknowledgement
// to a follower's two readers, an HTTP watch and an MQTT subscriber, which follow a
// service each, in turns: else one would wait for the other's processor. It returns how
// long a write takes.
func (b *bench) watchBesideMQTT(g *agentGroup) (write time.Duration, err error) {
	leader, err := g.leader()
	if err != nil {
		return 0, err
	}
	follower := (leader + 1) % 3
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	sides := [2]*arrivals{newArrivals(), newArrivals()}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { _ = g.watch(ctx, follower, 0, sides[0].came) })
	sub, err := dialMQTT(ctx, g.members[follower].mqtt, "bench")
	if err != nil {
		return 0, err
	}
	defer sub.Close()
	if err := sub.subscribe("system/config/" + service(1)); err != nil {
		return 0, err
	}
	all.Go(func() {
		for {
			kind, payload, err := sub.next()
			if err != nil {
				return
			}
			if n, ok := marked(payload); ok && kind == mqttPublish {
				sides[1].came(n)
			}
		}
	})
	defer sub.Close()
	writers := [2]writer{g.writer(leader, 0), g.writer(leader, 1)}
	const first = 800_000_000
	var took [2][]time.Duration
	var writes []time.Duration
	for n := first; n < first+mqttWrites+mqttPerTurn; {
		for side := range sides {
			for k := range mqttPerTurn {
				began := time.Now()
				if err := writers[side].write(ctx, n+k); err != nil {
					return 0, err
				}
				acked := time.Now()
				at, err := sides[side].await(ctx, n+k)
				if err != nil {
					return 0, fmt.Errorf("write %d was not seen at a follower: %w", n+k, err)
				}
				if n == first {
					continue // the connections, and a watch that may stand only now
				}
				took[side] = append(took[side], max(seenFloor, at.Sub(acked)))
				writes = append(writes, acked.Sub(began))
			}
		}
		n += mqttPerTurn
	}
	for _, w := range writers {
		w.close()
	}
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		http, mqtt := quantile(took[0], q.at), quantile(took[1], q.at)
		r, t := judge(float64(mqtt)/float64(http), 1.2, false)
		b.add(row{"acknowledged -> MQTT subscriber of a follower, beside its HTTP watch: " + q.name, ms(mqtt), ms(http), r, t})
	}
	return median(writes), nil
}

// sealCost signs and verifies a real envelope, as the agents and their clients do.
func (b *bench) sealCost(g *agentGroup, write time.Duration) error {
	sub, err := dialMQTT(b.ctx, g.members[0].mqtt, "bench-envelope")
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := sub.subscribe("system/config/" + service(0)); err != nil {
		return err
	}
	_, envelope, err := sub.next()
	if err != nil {
		return err
	}
	keys, err := request("GET", "http://"+g.members[0].local+"/v1/keys", "")
	if err != nil {
		return err
	}
	trust, err := hfclient.ParseKeys(keys.Body)
	if err != nil {
		return err
	}
	u, err := hfclient.VerifyUpdate(envelope, trust...)
	if err != nil {
		return err
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	signer := seal.NewSigner(private)
	each := func(f func()) time.Duration {
		var took []time.Duration
		for range 15 {
			const batch = 100
			began := time.Now()
			for range batch {
				f()
			}
			took = append(took, time.Since(began)/batch)
		}
		return median(took)
	}
	var bad error
	now := time.Now()
	sign := each(func() { signer.Sign(u.Service, u.Config, u.Epoch, now) })
	verify := each(func() {
		if _, err := hfclient.VerifyUpdate(envelope, trust...); err != nil {
			bad = err
		}
	})
	record := &conf.Record{Service: u.Service, Version: 1, Epoch: u.Epoch, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature}
	stored := each(func() {
		if err := seal.VerifyRecord(trust[0], record); err != nil {
			bad = err
		}
	})
	for _, c := range []struct {
		what string
		took time.Duration
	}{{"sign", sign}, {"verify (a record, as agents do)", stored}, {"verify (parse, canonicalise, and compare every byte)", verify}} {
		r, t := judge(100*float64(c.took)/float64(write), 1, false)
		b.add(row{fmt.Sprintf("%s, %d B, beside a write of one client; ratio in %%", c.what, len(envelope)), us(c.took), us(write), r, t})
	}
	return bad
}

// fan is a set of subscribers of one topic of one broker.
type fan struct {
	clients []*mqttClient
	mu      sync.Mutex
	want    int
	got     int
	first   time.Time
	all     chan time.Time
	readers sync.WaitGroup
}

func newFan(ctx context.Context, addr, topic string, n int) (*fan, error) {
	f := &fan{all: make(chan time.Time, 1)}
	for i := range n {
		c, err := dialMQTT(ctx, addr, fmt.Sprintf("fan-%d", i))
		if err != nil {
			return f, err
		}
		f.clients = append(f.clients, c)
		if err := c.subscribe(topic); err != nil {
			return f, err
		}
		f.readers.Go(func() {
			for {
				kind, payload, err := c.next()
				if err != nil {
					return
				}
				if m, ok := marked(payload); ok && kind == mqttPublish {
					f.came(m, n)
				}
			}
		})
	}
	return f, nil
}

func (f *fan) came(m, n int) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if m != f.want {
		return
	}
	if f.got++; f.got == 1 {
		f.first = now
	}
	if f.got == n {
		f.all <- now
	}
}

func (f *fan) close() {
	for _, c := range f.clients {
		_ = c.Close()
	}
	f.readers.Wait()
}

// lap is one update. send returns when it is acknowledged. The time is from then,
// or from the first delivery when that was sooner, to the last one.
func (f *fan) lap(ctx context.Context, m int, send func() error) (time.Duration, error) {
	f.mu.Lock()
	f.want, f.got = m, 0
	f.mu.Unlock()
	if err := send(); err != nil {
		return 0, err
	}
	acked := time.Now()
	select {
	case end := <-f.all:
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.first.Before(acked) {
			acked = f.first
		}
		return end.Sub(acked), nil
	case <-ctx.Done():
		return 0, errors.New("not all subscribers have the update")
	}
}

// fanout sends one update to many subscribers of one agent, and of a Mosquitto.
func (b *bench) fanout(g *agentGroup) error {
	bin, err := exec.LookPath("mosquitto")
	if err != nil {
		bin = "/usr/sbin/mosquitto"
		if _, err := os.Stat(bin); err != nil {
			fmt.Fprintln(os.Stderr, "mqtt: mosquitto is NOT installed (apt-get install mosquitto): no fan-out beside it")
			return nil
		}
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	file, addr := filepath.Join(b.dir, "mosquitto.conf"), "127.0.0.1:"+ports[0]
	if err := os.WriteFile(file, []byte("listener "+ports[0]+" 127.0.0.1\nallow_anonymous true\npersistence false\n"), 0o600); err != nil {
		return err
	}
	m, err := b.spawn("mosquitto.log", nil, bin, "-c", file)
	if err != nil {
		return err
	}
	defer m.kill()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	var publisher *mqttClient
	if err := b.await("mosquitto", 10*time.Second, func() bool {
		publisher, err = dialMQTT(ctx, addr, "publisher")
		return err == nil
	}); err != nil {
		return err
	}
	defer publisher.Close()
	leader, err := g.leader()
	if err != nil {
		return err
	}
	const key = 2
	topic := "system/config/" + service(key)
	ours, err := newFan(ctx, g.members[leader].mqtt, topic, fanSubs)
	defer ours.close()
	if err != nil {
		return err
	}
	theirs, err := newFan(ctx, addr, topic, fanSubs)
	defer theirs.close()
	if err != nil {
		return err
	}
	d, err := g.members[leader].get(service(key), "")
	if err != nil {
		return err
	}
	w := g.writer(leader, key)
	defer w.close()
	var took [2][]time.Duration
	for n := range fanRounds {
		mark := 900_000_000 + n
		lap, err := ours.lap(ctx, mark, func() error { return w.write(ctx, mark) })
		if err != nil {
			return fmt.Errorf("the agent: %w", err)
		}
		took[0] = append(took[0], lap)
		// As many bytes as the agent's.
		payload := append(fmt.Appendf(nil, `{"key_00":%d,`, mark), d.Body...)
		if lap, err = theirs.lap(ctx, mark, func() error { return publisher.publish(topic, payload) }); err != nil {
			return fmt.Errorf("mosquitto: %w", err)
		}
		took[1] = append(took[1], lap)
	}
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p90", 0.9}} {
		a, o := quantile(took[0], q.at), quantile(took[1], q.at)
		r, t := judge(float64(a)/float64(o), 1.5, false)
		b.add(row{fmt.Sprintf("one update to %d subscribers of one agent, last delivery, beside Mosquitto: %s", fanSubs, q.name), ms(a), ms(o), r, t})
	}
	return nil
}
