package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestBoard compares the board with a look at every filter.
func TestBoard(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	b := newTopicIndex()
	topics := []string{"system/config/a", "system/config/b", "system/config/c", HealthTopic}
	filters := append([]string{"system/#", "system/config/+", "system/health/+"}, topics...)
	conns := make([]*conn, 8)
	for i := range conns {
		conns[i] = &conn{queue: newSendQueue(newCounters())}
	}
	for step := range 2000 {
		c := conns[rng.IntN(len(conns))]
		var subs []packets.Subscription
		for range 1 + rng.IntN(3) {
			subs = append(subs, packets.Subscription{Filter: filters[rng.IntN(len(filters))]})
		}
		switch rng.IntN(5) {
		case 0, 1:
			b.add(c, subs)
			c.queue.subscribe(subs, nil)
		case 2, 3:
			b.remove(c, subs)
			c.queue.unsubscribe(subs)
		default:
			b.removeConn(c)
			c.queue.unsubscribe(slices.Clone(c.queue.filters))
		}
		m := newMessage(topics[rng.IntN(len(topics))], fmt.Append(nil, step), nil)
		b.publish(m)
		for i, c := range conns {
			want := slices.ContainsFunc(c.queue.filters, func(s packets.Subscription) bool { return matches(s.Filter, m.topic) })
			if _, got := c.queue.pending[m.topic]; got != want {
				t.Fatalf("step %d: subscriber %d of %v: offered %t", step, i, c.queue.filters, got)
			}
			clear(c.queue.pending)
			c.queue.order = c.queue.order[:0]
		}
	}
	for _, c := range conns {
		b.removeConn(c)
	}
	if len(b.exact)+len(b.wild)+len(b.of) != 0 {
		t.Fatalf("left over: %v %v", slices.Collect(maps.Keys(b.exact)), b)
	}
}

// stepSource gives what changed, as the agent's view does.
type stepSource struct {
	*fakeSource
	next *conf.Record
}

func (s *stepSource) Load(prev any) State {
	if prev == nil {
		return s.fakeSource.Load(nil)
	}
	return State{Epoch: testEpoch, Cursor: s, Changed: s.changed, Records: func(yield func(*conf.Record) bool) { yield(s.next) }}
}

// BenchmarkUpdate is what one update costs a broker with n services and, of each
// of these, a subscriber.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			src := &stepSource{fakeSource: newSource()}
			for i := range n {
				src.set(record(fmt.Sprintf("service-%d", i), testEpoch, 1, false))
			}
			br, err := New(Options{Addr: "127.0.0.1:0", Source: src})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = br.listener.Close() }()
			for i := range min(n, 1000) {
				c := &conn{queue: newSendQueue(br.counters)}
				br.conns[c] = struct{}{}
				br.subscribe(c, []packets.Subscription{{Filter: fmt.Sprintf("system/config/service-%d", i), Qos: 1}})
			}
			recs := make([]*conf.Record, 1024)
			for i := range recs {
				recs[i] = record(fmt.Sprintf("service-%d", i%10), testEpoch, uint64(2+i/10), false)
			}
			i := 0
			for b.Loop() {
				src.next = recs[i%len(recs)]
				i++
				br.syncServices()
			}
		})
	}
}
