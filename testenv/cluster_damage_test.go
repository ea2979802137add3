package testenv

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestDamagedMember damages one thing of one member after the other. The member
// serves reads as soon as it starts, comes back by itself as what it was, says
// what it did, and the cluster works all the while.
func TestDamagedMember(t *testing.T) {
	c := StartCluster(t, 3, 1)
	l := StartLoad(t, c, LoadOptions{Seed: 4, Pause: 20 * time.Millisecond})
	l.AwaitWrites(30)
	junk := func(path string) func(*testing.T, *Node) {
		return func(t *testing.T, n *Node) {
			if err := os.WriteFile(n.Path(path), []byte(strings.Repeat("this is not what was here\n", 400)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(path string) func(*testing.T, *Node) {
		return func(t *testing.T, n *Node) {
			for _, share := range []float64{0.001, 0.2, 0.4, 0.5, 0.6, 0.8} {
				FlipByte(t, n.Path(path), share)
			}
		}
	}
	for _, tc := range []struct {
		name   string
		damage func(*testing.T, *Node)
	}{
		{"database overwritten", junk("config.db")},
		{"bytes of the database flipped", flip("config.db")},
		{"database deleted", func(_ *testing.T, n *Node) { n.RemoveDB() }},
		{"log overwritten", junk("raft/raft.db")},
		{"bytes of the log flipped", flip("raft/raft.db")},
		{"log deleted", func(t *testing.T, n *Node) {
			if err := os.RemoveAll(n.Raft()); err != nil {
				t.Fatal(err)
			}
		}},
		{"database and log overwritten", func(t *testing.T, n *Node) { junk("config.db")(t, n); junk("raft/raft.db")(t, n) }},
		{"last-known-good file flipped", flip("config.lkg.json")},
		{"list of members overwritten", junk("cluster.json")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := c.Followers()[0]
			n.Stop() // so that its files are as it left them
			tc.damage(t, n)
			l.AwaitWrites(3) // without it
			n.Start()
			n.AwaitServing("reg-0") // from whatever it has
			if !poll(Patience, func() bool { return normal(n) }) {
				h, _ := n.Health()
				t.Errorf("the member does not come back by itself: %s\n%s", jsonText(h), n.log.Tail(12))
				n.Kill()
				c.replace(t, n)
				return
			}
			n.up()
			c.AwaitVoters(3)
			l.AwaitWrites(3)
		})
	}
	t.Run("directory wiped", func(t *testing.T) {
		n := c.Followers()[0]
		n.Kill()
		n.Wipe()
		l.AwaitWrites(3)
		c.replace(t, n)
		c.AwaitVoters(3)
	})
	c.CheckInvariants(t, l)
}

func normal(n *Node) bool {
	h, ok := n.Health()
	return ok && h.OK && h.OperationalMode == conf.ModeNormal && n.Local("/readyz").Status == http.StatusOK
}

// replace takes a dead member out of the cluster, and lets a new one with an empty
// directory in: what an operator does who has lost a machine.
func (c *Cluster) replace(t *testing.T, dead *Node) {
	t.Helper()
	Await(t, "the dead member to be removed", func() bool {
		leader := c.Leader()
		row, ok := dead.In(status(t, leader))
		if !ok {
			return true
		}
		r := leader.Admin("POST", "/api/config/cluster/members/"+row.NodeID+"/remove", "", "Content-Type: application/json")
		return r.Status == http.StatusOK || r.Status == http.StatusNotFound
	})
	n := c.NewNode(conf.MemberServer)
	n.Paste(c.Leader().TokenCommand("--role", "server"))
	n.AwaitUp()
	c.AwaitVoters(3)
}

// TestColdStartAlone kills all agents. One of them, started alone, serves at once
// all that it had; each of them does.
func TestColdStartAlone(t *testing.T) {
	c := StartCluster(t, 3, 1, "CONFIG_MQTT_REISSUE=0") // what is signed stays as it is
	c.Nodes[0].Patch("stt-worker", `{"vad_threshold":0.7}`)
	c.Nodes[1].Patch("router", `{"router_stream_min_chars":77}`)
	c.AwaitConverged(t)
	want := c.Nodes[0].State()
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, n := range c.Nodes {
		for try := 1; ; try++ {
			n.Start()
			began := time.Now()
			for _, name := range want.Names() {
				// From the last-known-good file first, which is a moment behind the database
				// when the agent was killed.
				n.AwaitServing(name)
				Await(t, n.ID+", started alone, to serve "+name+" as it had it", func() bool {
					d, err := n.TryDocument(name)
					return err == nil && want.Differs(d, false) == nil
				})
			}
			took := time.Since(began)
			if took < 15*time.Second { // it waits for nobody
				break
			}
			if try == 2 { // once it may be the machine
				t.Errorf("%s, started alone, served all of it after %v", n.ID, took)
				break
			}
			n.Kill()
		}
		n.Local("/readyz").OK(t)
		if r := patchRouter(n, 78); r.Status != http.StatusServiceUnavailable {
			t.Errorf("a write at %s alone: %s", n.ID, r)
		}
		n.Kill()
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	for _, n := range c.Nodes {
		n.AwaitUp()
	}
	c.AwaitVoters(3)
	for _, n := range c.Nodes {
		want.Require(t, n.Agent, "replica", false)
	}
	c.Nodes[2].Patch("router", `{"router_stream_min_chars":79}`)
	c.CheckInvariants(t, nil)
}

// TestRetryDoublesNothing cuts the answers of forwarded writes off, again and
// again, and repeats each write with its Idempotency-Key until it is answered.
func TestRetryDoublesNothing(t *testing.T) {
	c := StartCluster(t, 3, 0)
	first := c.Leader().Patch("router", `{"router_stream_min_chars":10}`)
	const writes = 12
	cut, repeated := 0, 0
	for i := range writes {
		key := fmt.Sprintf("Idempotency-Key: retry-%d", i)
		leader, followers := c.Servers()
		n := followers[0]
		back := c.Net.Link(leader.ID, n.ID)
		var stop sync.WaitGroup
		if i%2 == 0 {
			back.Hold() // the write arrives, its answer does not
			stop.Go(func() {
				poll(time.Second, func() bool {
					d, err := leader.TryDocument("router")
					return err == nil && d.Metadata.Version > first+uint64(i)
				})
				back.Cut()
			})
		}
		r := patchRouter(n, 100+i, key)
		stop.Wait()
		back.Heal()
		if r.Err != nil || r.Status != http.StatusOK {
			if r.Status == http.StatusGatewayTimeout {
				cut++
				if r.Failure().Code != conf.CodeOutcomeUnknown || r.Failure().Hint == "" {
					t.Errorf("a lost answer: %s", r)
				}
			}
			Await(t, "the repeated write to be answered", func() bool {
				repeated++
				r = patchRouter(n, 100+i, key)
				return r.Err == nil && r.Status == http.StatusOK
			})
		}
		// Asked once more, the answer is the same.
		var a, b struct {
			NewVersion uint64 `json:"new_version"`
		}
		r.Into(t, &a)
		Await(t, "one more answer", func() bool {
			r = patchRouter(c.Leader(), 100+i, key)
			return r.Err == nil && r.Status == http.StatusOK
		})
		r.Into(t, &b)
		if want := first + uint64(i) + 1; a.NewVersion != want || b.NewVersion != want {
			t.Fatalf("write %d made version %d, and said %d when repeated; want %d", i, a.NewVersion, b.NewVersion, want)
		}
	}
	if cut < 2 || repeated < cut {
		t.Errorf("only %d answers were cut off, %d writes repeated", cut, repeated)
	}
	c.CheckInvariants(t, nil)
}

// TestStrangers lets agents in who should not be: one with the name of a member,
// one that joins itself, one that is a member elsewhere.
func TestStrangers(t *testing.T) {
	c := StartCluster(t, 1, 1)
	founder := c.Nodes[0]
	term := status(t, founder).Term
	before := len(status(t, founder).Nodes)

	t.Run("a second agent with the name of a member", func(t *testing.T) {
		n := c.NewNode(conf.MemberSidecar)
		n.Set("CONFIG_NODE_ID", "n2")
		n.Paste(founder.TokenCommand("--role", "sidecar"))
		if code := n.proc.Wait(t, "the second n2 to be refused"); code == 0 {
			t.Error("exit 0")
		}
		if text := refusalOf(n.Log(), n.Dir); !strings.Contains(text, "n2") || !strings.Contains(text, "hint: ") {
			t.Errorf("refused with %q", text)
		}
		c.Nodes[1].Patch("router", `{"router_stream_min_chars":51}`) // the true n2 works on
	})
	t.Run("a join to itself", func(t *testing.T) {
		command := founder.TokenCommand("--role", "server")
		n := c.NewNode(conf.MemberServer)
		n.Paste(strings.Replace(command, founder.Addr, n.Addr, 1))
		// Nobody answers there but the agent itself, which has not joined: it tries
		// on, or says that this is its own address. It never becomes a cluster.
		Await(t, "the agent to say that it does not get in", func() bool {
			return !n.Running() || strings.Contains(n.Log(), "joining: trying again")
		})
		n.Kill()
		if _, err := os.Stat(filepath.Join(n.Dir, "config.db")); err == nil {
			t.Error("it made a database of its own")
		}
	})
	t.Run("a member of another cluster", func(t *testing.T) {
		other := StartCluster(t, 1, 0)
		n := other.Nodes[0]
		epoch := n.Document("router").Metadata.Epoch
		n.Kill()
		token := founder.TokenCommand("--role", "server")
		n.Paste(token)
		// It stays what it was, or ends and says why; its data is not mixed.
		Await(t, "the member of another cluster to decide", func() bool { return !n.Running() || normal(n) })
		if n.Running() {
			if got := n.Document("router").Metadata.Epoch; got != epoch {
				t.Errorf("it is in epoch %s now, and was in %s", got, epoch)
			}
		} else if !strings.Contains(n.Log(), "hint: ") {
			t.Errorf("it ended without a way out:\n%s", n.log.Tail(5))
		}
	})
	st := status(t, founder)
	if st.Term != term || len(st.Nodes) != before {
		t.Errorf("term %d and %d members, were %d and %d", st.Term, len(st.Nodes), term, before)
	}
}
