package upgrade

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

var allOrders = flag.Bool("all", false, "upgrade the servers in all six orders, not in two")

// orders are those in which three servers are upgraded: 0 is the one that leads at first.
var orders = [][3]int{{0, 1, 2}, {1, 2, 0}, {0, 2, 1}, {1, 0, 2}, {2, 0, 1}, {2, 1, 0}}

// newKind is a change that the old build cannot apply: keys outside its rule.
const newKind = `{"type":"object","x-keys":"any","properties":{"camelCase":{"type":"string"}}}`

// oldCluster is three servers and a sidecar of the old build.
func oldCluster(t *testing.T) *testenv.Cluster {
	t.Helper()
	old := OldBuild(t)
	c := testenv.NewCluster(t)
	for i := range 4 {
		role := conf.MemberServer
		if i == 3 {
			role = conf.MemberSidecar
		}
		n := c.NewNode(role)
		n.Use(old)
		if i == 0 {
			n.Start()
		} else {
			n.Paste(c.Nodes[0].TokenCommand("--role", role))
		}
		n.AwaitUp()
	}
	c.AwaitVoters(3)
	return c
}

// restart ends one agent in an orderly way and starts it with another build.
func restart(n *testenv.Node, bin string) {
	n.Stop()
	n.Use(bin)
	n.Start()
	n.AwaitUp()
}

// lead makes a server the leader.
func lead(t *testing.T, c *testenv.Cluster, n *testenv.Node) {
	t.Helper()
	testenv.Await(t, n.ID+" to lead", func() bool {
		leader := c.TryLeader()
		if leader == nil {
			return false
		}
		if leader == n {
			return true
		}
		leader.Admin("POST", "/api/config/cluster/transfer", fmt.Sprintf(`{"node":%q}`, n.ID), "Content-Type: application/json")
		return false
	})
}

// allRun fails the test when an agent has ended by itself or has stopped to apply.
func allRun(t *testing.T, c *testenv.Cluster, where string) {
	t.Helper()
	for _, n := range c.Nodes {
		if !n.Running() {
			t.Fatalf("%s: %s has ended:\n%s", where, n.ID, n.Log())
		}
	}
	c.AwaitVoters(3)
	c.AwaitConverged(t)
}

// TestRollingUpgrade upgrades three servers of the old build and their sidecar, one after
// the other, under writes. After each step the upgraded server leads: it has to write
// nothing at which the others would stop. No acknowledged write is lost, no agent stops,
// and there is a quorum at each step.
func TestRollingUpgrade(t *testing.T) {
	some := orders[:2]
	if *allOrders {
		some = orders
	}
	for _, order := range some {
		t.Run(strings.Join(strings.Fields(fmt.Sprint(order)), ""), func(t *testing.T) {
			this := testenv.Binary(t, "./cmd/holdfast")
			c := oldCluster(t)
			leader, followers := c.Servers()
			servers := []*testenv.Node{leader, followers[0], followers[1]}
			sidecar := c.Nodes[3]
			l := testenv.StartLoad(t, c, testenv.LoadOptions{Clients: 2, Retry: true})
			l.AwaitWrites(10)
			for i, which := range order {
				if i == 2 { // what does not vote holds up nothing, so it is upgraded before the last voter
					restart(sidecar, this)
				}
				n := servers[which]
				restart(n, this)
				l.AwaitWrites(10)
				lead(t, c, n)
				r := n.Admin("PUT", "/api/config/schemas/new-kind", newKind, "Content-Type: application/json")
				if i < 2 && (r.Status == http.StatusOK || r.Failure().Code != conf.CodeUnsupported) {
					t.Errorf("with %d of 3 servers upgraded a change of the new build was not rejected as unsupported: %s", i+1, r)
				}
				l.AwaitWrites(10)
				allRun(t, c, fmt.Sprintf("after the upgrade of %s, %d of 3", n.ID, i+1))
			}
			testenv.Await(t, "a change of the new build", func() bool {
				return c.Leader().Admin("PUT", "/api/config/schemas/new-kind", newKind, "Content-Type: application/json").Status == http.StatusOK
			})
			l.AwaitWrites(10)
			allRun(t, c, "at the end")
			c.CheckInvariants(t, l)
		})
	}
}

// TestOneBuildBack: a server that was upgraded goes back to the old build while another one
// is old too; nothing has happened that it could not read.
func TestOneBuildBack(t *testing.T) {
	this, old := testenv.Binary(t, "./cmd/holdfast"), OldBuild(t)
	c := oldCluster(t)
	l := testenv.StartLoad(t, c, testenv.LoadOptions{Clients: 2, Retry: true})
	leader, followers := c.Servers()
	restart(leader, this)
	restart(followers[0], this)
	lead(t, c, leader)
	l.AwaitWrites(10)
	restart(leader, old)
	l.AwaitWrites(10)
	allRun(t, c, "after the way back")
	c.CheckInvariants(t, l)
}
