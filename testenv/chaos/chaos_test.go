package chaos

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

var (
	duration = flag.Duration("duration", 15*time.Second, "how long to break the cluster")
	seed     = flag.Uint64("seed", 0, "of the faults; 0 makes one")
	only     = flag.String("faults", "", "only these kinds of faults, comma separated")
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// monkey breaks one thing after the other.
type monkey struct {
	t    *testing.T
	c    *testenv.Cluster
	l    *testenv.Load
	r    *rand.Rand
	done map[string]int
}

// faults by their kind. Each one breaks something, lets the clients work with it
// for some time, and repairs it.
var faults = map[string]func(*monkey){
	"kill leader":     func(m *monkey) { m.kill(m.c.Leader()) },
	"kill follower":   func(m *monkey) { m.kill(m.follower()) },
	"kill sidecar":    func(m *monkey) { m.kill(m.sidecar()) },
	"kill two":        (*monkey).killTwo,
	"kill all":        (*monkey).killAll,
	"stop leader":     func(m *monkey) { n := m.c.Leader(); n.Stop(); m.works(); m.start(n) },
	"pause leader":    func(m *monkey) { m.pause(m.c.Leader()) },
	"pause follower":  func(m *monkey) { m.pause(m.follower()) },
	"hold leader":     func(m *monkey) { m.cutOff(m.c.Leader(), (*testenv.Link).Hold) },
	"hold follower":   func(m *monkey) { m.cutOff(m.follower(), (*testenv.Link).Hold) },
	"reset leader":    func(m *monkey) { m.cutOff(m.c.Leader(), (*testenv.Link).Cut) },
	"one way":         (*monkey).oneWay,
	"delay":           (*monkey).delay,
	"lossy":           (*monkey).lossy,
	"hand over":       (*monkey).handOver,
	"flapping leader": (*monkey).flap,
}

func (m *monkey) follower() *testenv.Node {
	all := m.c.Followers()
	return all[m.r.IntN(len(all))]
}

func (m *monkey) sidecar() *testenv.Node {
	for _, n := range m.c.Nodes {
		if n.Role == conf.MemberSidecar {
			return n
		}
	}
	return m.follower()
}

// works waits until clients get on with their work.
func (m *monkey) works() { m.l.AwaitWrites(2 + m.r.IntN(10)) }

func (m *monkey) start(nodes ...*testenv.Node) {
	for _, n := range nodes {
		n.Start()
	}
	for _, n := range nodes {
		n.AwaitUp()
	}
}

func (m *monkey) kill(n *testenv.Node) {
	n.Kill()
	m.works()
	m.start(n)
}

func (m *monkey) killTwo() {
	leader, followers := m.c.Servers()
	two := []*testenv.Node{leader, followers[m.r.IntN(len(followers))]}
	for _, n := range two {
		n.Kill()
	}
	m.await("a write to be refused without a quorum", func() bool {
		live := m.c.Live()
		r := live[0].Admin("PATCH", "/api/config/services/router", `{"router_stream_min_chars":44}`)
		return r.Status == http.StatusServiceUnavailable
	})
	m.start(two...)
}

func (m *monkey) killAll() {
	for _, n := range m.c.Nodes {
		n.Kill()
	}
	m.start(m.c.Nodes...)
}

func (m *monkey) pause(n *testenv.Node) {
	n.Pause()
	m.works()
	n.Resume()
}

func (m *monkey) cutOff(n *testenv.Node, fault func(*testenv.Link)) {
	m.c.Net.Each(testenv.IDs(n), testenv.IDs(m.c.Except(n)...), fault)
	m.works()
	m.c.Net.Heal()
}

func (m *monkey) oneWay() {
	n := m.c.Leader()
	hears := m.r.IntN(2) == 0
	for _, o := range m.c.Except(n) {
		if hears {
			m.c.Net.Link(n.ID, o.ID).Hold()
		} else {
			m.c.Net.Link(o.ID, n.ID).Hold()
		}
	}
	m.works()
	m.c.Net.Heal()
}

func (m *monkey) each(f func(*testenv.Link)) {
	ids := testenv.IDs(m.c.Nodes...)
	m.c.Net.Each(ids, ids, f)
}

func (m *monkey) delay() {
	m.each(func(l *testenv.Link) { l.Delay(time.Duration(1+m.r.IntN(60)) * time.Millisecond) })
	m.works()
	m.c.Net.Heal()
}

func (m *monkey) lossy() {
	m.each(func(l *testenv.Link) { l.Lossy(0.02) })
	m.works()
	m.c.Net.Heal()
}

func (m *monkey) handOver() {
	m.c.Leader().Admin("POST", "/api/config/cluster/transfer", "", "Content-Type: application/json")
	m.works()
}

// flap cuts a leader off and back, faster than anybody can settle.
func (m *monkey) flap() {
	n := m.c.Leader()
	rest := testenv.IDs(m.c.Except(n)...)
	for range 4 {
		m.c.Net.Each(testenv.IDs(n), rest, (*testenv.Link).Cut)
		m.l.Linger(time.Duration(200+m.r.IntN(800)) * time.Millisecond)
		m.c.Net.Heal()
		m.l.Linger(time.Duration(100+m.r.IntN(400)) * time.Millisecond)
	}
}

func (m *monkey) await(what string, cond func() bool) { testenv.Await(m.t, what, cond) }

// TestChaos is one run.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	kinds := slices.Sorted(maps.Keys(faults))
	if *only != "" {
		kinds = strings.Split(*only, ",")
	}
	m := &monkey{t: t, r: rand.New(rand.NewPCG(*seed, 1)), done: map[string]int{}}
	t.Logf("seed %d, for %v", *seed, *duration)
	m.c = testenv.StartCluster(t, 3, 1)
	m.l = testenv.StartLoad(t, m.c, testenv.LoadOptions{Seed: *seed, Services: 4, Clients: 6, Retry: true})
	began := time.Now()
	defer func() {
		verdict := "consistent"
		if t.Failed() {
			verdict = "FAILED"
		}
		fmt.Printf("chaos: seed %d, %v\n  operations: %s\n  faults: %v\n  verdict: %s\n", *seed, time.Since(began).Round(time.Second), m.l.Counts(), m.done, verdict)
	}()
	// Every kind comes once before any comes twice.
	order := m.r.Perm(len(kinds))
	for n := 0; (time.Since(began) < *duration || n < 2) && m.l.Problems() == 0; n++ {
		if len(order) == 0 {
			order = m.r.Perm(len(kinds))
		}
		kind := kinds[order[0]]
		order = order[1:]
		fault := faults[kind]
		if fault == nil {
			t.Fatalf("no fault %q; there are %q", kind, slices.Sorted(maps.Keys(faults)))
		}
		at := time.Now()
		fault(m)
		m.c.AwaitVoters(3)
		m.l.AwaitWrites(5)
		m.done[kind]++
		t.Logf("%8v %s, for %v", time.Since(began).Round(time.Millisecond), kind, time.Since(at).Round(time.Millisecond))
	}
	total := 0
	for _, n := range m.done {
		total += n
	}
	m.c.CheckInvariants(t, m.l)
	if t.Failed() {
		return
	}
	if seconds := int(time.Since(began).Seconds()); total < max(2, seconds/60) || m.l.Acknowledged() < seconds || m.l.Count("reads") < 10*seconds {
		t.Errorf("too few faults or too little traffic to mean anything: %d faults in %ds, %s", total, seconds, m.l.Counts())
	}
}
