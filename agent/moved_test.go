package agent_test

import (
	"context"
	"database/sql"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// holdDatabase locks the database of an agent for writing, as another process would,
// until free is called.
func (r *running) holdDatabase() (free func()) {
	r.T.Helper()
	db, err := sql.Open("sqlite", "file:"+r.Options.DBPath+"?_pragma=busy_timeout(5000)")
	if err != nil {
		r.T.Fatal(err)
	}
	conn, err := db.Conn(context.Background())
	if err == nil {
		_, err = conn.ExecContext(r.T.Context(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		r.T.Fatal(err)
	}
	return func() {
		if err := conn.Close(); err != nil {
			r.T.Error(err)
		}
		if err := db.Close(); err != nil {
			r.T.Error(err)
		}
	}
}

// TestOwnWriteIsReadWhereItWasMade: a change that was made at an agent which is behind is
// acknowledged when it can be read there, or says that it cannot be.
func TestOwnWriteIsReadWhereItWasMade(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	write := func(level string) (applied string) {
		code, h, body := side.Call("PATCH", side.Info().AdminURL+"/api/config/services/demo", `{"level":`+level+`}`, "X-API-Token", testenv.WriteToken)
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		return h.Get("X-Config-Applied")
	}
	if applied := write("21"); applied != "true" {
		t.Errorf("X-Config-Applied: %q", applied)
	}

	free := side.holdDatabase()
	answered := make(chan string, 1)
	go func() {
		applied := write("22")
		level, _ := side.level()
		answered <- applied + " " + level
	}()
	n1.Await("the change at the leader", func() bool { v, _ := n1.level(); return v == "22" })
	select { // longer than any moment that an agent which keeps up needs
	case got := <-answered:
		t.Errorf("answered before it is applied: %s", got)
		answered <- got
	case <-time.After(700 * time.Millisecond):
	}
	free()
	if got := <-answered; got != "true 22" {
		t.Errorf("applied, level: %s", got)
	}

	free = side.holdDatabase()
	if applied := write("23"); applied != "false" {
		t.Errorf("X-Config-Applied: %q while the database is held", applied)
	}
	if v, _ := n1.level(); v != "23" {
		t.Errorf("acknowledged, and the leader has %s", v)
	}
	free()
	side.Await("the change", func() bool { v, _ := side.level(); return v == "23" })
}

// moved starts an agent that was stopped again, at another address of its cluster port.
func moved(t *testing.T, o options.Options, addr string) *running {
	t.Helper()
	o.ClusterAddr = addr
	return start(t, o)
}

// found waits until r follows a leader, and has what is written there.
func (r *running) found(leader *running, level string) {
	r.T.Helper()
	leader.Await("a change", func() bool { code, _ := leader.set(level); return code == http.StatusOK })
	r.Await("the change at "+r.Info().Cluster, func() bool { v, src := r.level(); return v == level && src == "replica" })
	leader.Await("the new address in the list of members", func() bool {
		for _, n := range leader.status().Nodes {
			if n.NodeID == r.Info().NodeID {
				return n.Reachable && n.Addr == r.Info().Cluster
			}
		}
		return false
	})
}

// TestMovedMembersAreFound: a member that comes back at another address finds the leader
// by the members it knows, whatever the members know of it.
func TestMovedMembersAreFound(t *testing.T) {
	t.Parallel()
	o1 := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})
	n1 := start(t, o1).ready()
	o2 := joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)
	n2 := start(t, o2).ready()
	o3 := joining(t, n1, "n3", n1.joinToken(conf.MemberServer).Token)
	n3 := start(t, o3).ready()
	os := joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
	side := start(t, os).ready()
	n1.Await("three voters", func() bool { return n1.status().Voters == 3 })

	side.Stop()
	side = moved(t, os, freeAddr(t))
	side.found(n1, "11")

	// Of another host name too: it calls from there.
	side.Stop()
	side = moved(t, os, strings.Replace(freeAddr(t), "127.0.0.1", "127.0.0.2", 1))
	side.found(n1, "12")

	n1.lead(n2, n3)
	n2.Stop()
	n2 = moved(t, o2, freeAddr(t))
	n2.found(n1, "13")

	// The leader itself: another one leads meanwhile.
	n1.Stop()
	n2.Await("another leader", func() bool { return n2.Rooms().Cluster.IsReadyLeader() || n3.Rooms().Cluster.IsReadyLeader() })
	n1 = moved(t, o1, freeAddr(t))
	leader := n2
	if n3.Rooms().Cluster.IsReadyLeader() {
		leader = n3
	}
	n1.found(leader, "14")

	// Two of three voters at once: one of them is elected by the third, the other one is
	// told where it is. The sidecar moves with them.
	n2.Stop()
	n3.Stop()
	side.Stop()
	n2, n3, side = moved(t, o2, freeAddr(t)), moved(t, o3, freeAddr(t)), moved(t, os, freeAddr(t))
	n1.Await("a leader", func() bool {
		for _, n := range []*running{n1, n2, n3} {
			if n.Rooms().Cluster.IsReadyLeader() {
				leader = n
				return true
			}
		}
		return false
	})
	for _, n := range []*running{n1, n2, n3, side} {
		n.found(leader, "15")
	}
}
