package testenv

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestDatabaseIsServedWithoutQuorum: an agent that restarts alone serves what its database
// has applied, although its last-known-good file is older, before it gives up on a leader.
func TestDatabaseIsServedWithoutQuorum(t *testing.T) {
	c := StartCluster(t, 3, 1)
	side, server := c.Nodes[3], c.Nodes[1]
	first := c.Nodes[0].Patch("router", `{"router_stream_min_chars":41}`)
	agents := []*Node{server, side}
	old := map[*Node][]byte{}
	for _, n := range agents {
		Await(t, n.ID+" to have the first change in its last-known-good file", func() bool {
			d, err := n.TryDocument("router")
			data, rerr := os.ReadFile(n.LKG())
			old[n] = data
			return err == nil && d.Metadata.Version >= first && rerr == nil
		})
	}
	var last uint64
	for i := range 5 {
		last = c.Nodes[0].Patch("router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, 50+i))
	}
	for _, n := range agents {
		Await(t, n.ID+" to serve the last change", func() bool {
			d, err := n.TryDocument("router")
			return err == nil && d.Metadata.Version == last
		})
	}
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, n := range agents {
		if err := os.WriteFile(n.LKG(), old[n], 0o600); err != nil {
			t.Fatal(err)
		}
		n.Start()
		Await(t, n.ID+" to serve what it has applied", func() bool {
			d, err := n.TryDocument("router")
			return err == nil && d.Metadata.Version == last && d.Source == "replica"
		})
		if n.log.Has("no leader answers") {
			t.Errorf("%s waited for a leader before it served its own database", n.ID)
		}
		n.Kill()
	}
}

// TestReadsNeverGoBackAcrossAKill: under writes all agents are killed at once and started
// again. Once its database is open, none serves less than it did before.
func TestReadsNeverGoBackAcrossAKill(t *testing.T) {
	c := StartCluster(t, 3, 0)
	newest := make([]uint64, len(c.Nodes)) // that each agent has served
	for round := range 3 {
		stop := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					c.Nodes[i%3].Admin("PATCH", "/api/config/services/router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, 40+(round*100+i)%50), "Content-Type: application/json")
				}
			}
		})
		for i, n := range c.Nodes {
			running.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if d, err := n.TryDocument("router"); err == nil {
						newest[i] = max(newest[i], d.Metadata.Version)
					}
				}
			})
		}
		before := c.Nodes[0].Document("router").Metadata.Version
		Await(t, "some changes", func() bool {
			d, err := c.Nodes[0].TryDocument("router")
			return err == nil && d.Metadata.Version > before+10
		})
		for _, n := range c.Nodes {
			_ = n.proc.cmd.Process.Kill()
		}
		close(stop)
		running.Wait()
		for _, n := range c.Nodes {
			n.Kill()
			n.Start()
		}
		var reading sync.WaitGroup
		for i, n := range c.Nodes {
			reading.Go(func() {
				fromFile := 0
				if !poll(Patience, func() bool {
					d, err := n.TryDocument("router")
					if err != nil {
						return false
					}
					if d.Source != "replica" {
						fromFile++
						return false
					}
					if d.Metadata.Version < newest[i] {
						t.Errorf("%s serves version %d from its database, and served %d before", n.ID, d.Metadata.Version, newest[i])
					}
					h, ok := n.Health()
					return ok && h.OperationalMode == conf.ModeNormal
				}) {
					t.Errorf("%s does not come up", n.ID)
				}
				t.Logf("round %d: %s answered %d reads before its database was open", round, n.ID, fromFile)
			})
		}
		reading.Wait()
		for _, n := range c.Nodes {
			n.AwaitUp()
		}
	}
}
