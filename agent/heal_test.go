package agent_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// three starts three servers that all vote, and answers them with their options.
func three(t *testing.T, env ...string) (r [3]*running, o [3]options.Options) {
	t.Helper()
	all := map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)}
	for i := 0; i < len(env); i += 2 {
		all[env[i]] = env[i+1]
	}
	o[0] = testenv.Options(t, all)
	r[0] = start(t, o[0]).ready()
	for i := 1; i < 3; i++ {
		o[i] = joining(t, r[0], "n"+strconv.Itoa(i+1), r[0].joinToken(conf.MemberServer).Token)
		o[i].DigestEvery = o[0].DigestEvery
		r[i] = start(t, o[i]).ready()
	}
	r[0].Await("three voters", func() bool { return r[0].status().Voters == 3 })
	if code, body := r[0].set("7"); code != http.StatusOK {
		t.Fatal(body)
	}
	for _, a := range r {
		a.Await("the value everywhere", func() bool { v, _ := a.level(); return v == "7" })
		a.Await("a log that is noted", a.Rooms().Cluster.HasLog)
	}
	return r, o
}

// voters are the ids of those that vote, by the word of one agent.
func (r *running) voters() map[string]bool {
	out := map[string]bool{}
	for _, s := range r.Rooms().Replicas.Servers() {
		out[s.ID] = s.Voter
	}
	return out
}

func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 4; i < len(data); i += 512 {
		data[i] ^= 0x55
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMemberRestoresItsDatabaseFromItsOwnLog(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	for name, harm := range map[string]func(){
		"corrupt": func() { flip(t, o[1].DBPath) },
		"deleted": func() {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(o[1].DBPath + suffix)
			}
		},
	} {
		r[1].Stop()
		harm()
		r[1] = start(t, o[1]).ready()
		if id := r[1].Info().NodeID; id != "n2" {
			t.Fatalf("%s: it is %s now", name, id)
		}
		if e := *r[1].Health().Event; e != "database restored from the log" {
			t.Fatalf("%s: event %q", name, e)
		}
		if v, src := r[1].level(); v != "7" || src != "replica" {
			t.Fatalf("%s: %s from %s", name, v, src)
		}
		r[0].Await("the same digest", func() bool { return sameDigests(r[0].status(), 3) })
	}
}

func sameDigests(s conf.ClusterStatus, nodes int) bool {
	digests := map[string]bool{}
	for _, n := range s.Nodes {
		if n.State == conf.NodeUnreachable {
			return false
		}
		digests[n.Digest] = true
	}
	return len(s.Nodes) == nodes && len(digests) == 1
}

// A member that lost its log never votes again under its name: it comes back as
// another one.
func TestMemberThatLostItsLogComesBackUnderANewID(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	raftDB := filepath.Join(o[1].RaftDir(), "raft.db")
	cases := []struct {
		name string
		harm func() error
	}{
		{"log wiped", func() error { return os.RemoveAll(o[1].RaftDir()) }},
		{"log corrupt", func() error { flip(t, raftDB); return nil }},
		{"log empty", func() error { return os.Truncate(raftDB, 0) }},
		{"log and database gone", func() error {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(o[1].DBPath + suffix)
			}
			return os.RemoveAll(o[1].RaftDir())
		}},
	}
	for i, c := range cases {
		was, now := "n2", "n2-r"+strconv.Itoa(i+2)
		if i > 0 {
			was = "n2-r" + strconv.Itoa(i+1)
		}
		r[1].Stop()
		if err := c.harm(); err != nil {
			t.Fatal(err)
		}
		r[1] = start(t, o[1])
		if v, _ := r[1].level(); v != "7" {
			t.Fatalf("%s: reads before it is healed: %q", c.name, v)
		}
		r[1].ready()
		if id := r[1].Info().NodeID; id != now {
			t.Fatalf("%s: it is %s, not %s", c.name, id, now)
		}
		if e := *r[1].Health().Event; e != "rebuilt from the cluster as "+now {
			t.Fatalf("%s: event %q", c.name, e)
		}
		if v, src := r[1].level(); v != "7" || src != "replica" {
			t.Fatalf("%s: %s from %s", c.name, v, src)
		}
		var info recovery.Info
		data, err := os.ReadFile(o[1].RebuildInfo())
		if err == nil {
			err = json.Unmarshal(data, &info)
		}
		if err != nil || info.Source != "cluster" || info.Reason == "" || strings.Join(info.Services, ",") != "demo" {
			t.Fatalf("%s: rebuild.info %+v, %v", c.name, info, err)
		}
		r[0].Await(c.name+": a vote for "+now, func() bool {
			v := r[0].voters()
			_, old := v[was]
			return v[now] && !old && len(v) == 3
		})
		r[0].Await("the old row is gone", func() bool {
			for _, m := range r[0].Rooms().Cluster.Members() {
				if m.NodeID == was {
					return false
				}
			}
			return sameDigests(r[0].status(), 3)
		})
		if code, body := r[1].set("7"); code != http.StatusOK {
			t.Fatalf("%s: a change through it: %d %s", c.name, code, body)
		}
	}
	// What was damaged is kept.
	kept := 0
	_ = filepath.WalkDir(filepath.Join(o[1].DataDir, "quarantine"), func(path string, _ fs.DirEntry, _ error) error {
		if filepath.Base(path) == "reason.json" {
			kept++
		}
		return nil
	})
	if kept < 2 {
		t.Fatalf("%d quarantined", kept)
	}
	// The new name outlives a restart, with the setting as it was.
	r[1].Stop()
	if r[1] = start(t, o[1]).ready(); r[1].Info().NodeID != "n2-r5" {
		t.Fatal(r[1].Info().NodeID)
	}
}

// Without a leader nobody takes it back: it serves, and neither votes nor starts
// a cluster of its own.
func TestDamagedMemberWaitsForALeader(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	for _, a := range r {
		a.Stop()
	}
	if err := os.RemoveAll(o[1].RaftDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(o[1].DataDir, "cluster.json")); err != nil { // it does not even know of the others
		t.Fatal(err)
	}
	n2 := start(t, o[1])
	n2.Await("it waits", func() bool { return n2.Health().OperationalMode == conf.ModeRebuilding })
	if v, _ := n2.level(); v != "7" {
		t.Fatalf("reads: %q", v)
	}
	if code, _ := n2.setOnce("9"); code == http.StatusOK {
		t.Fatal("it took a change alone")
	}
	if _, err := os.Stat(o[1].DBPath); err != nil {
		t.Fatalf("the good database was set aside before a leader was there: %v", err)
	}
	// One vote of three is no quorum, and the damaged one gives none.
	n1 := start(t, o[0])
	row := func(id string) (n conf.NodeStatus) {
		for _, n := range n1.status().Nodes {
			if n.NodeID == id {
				return n
			}
		}
		return n
	}
	n1.Await("the status to tell what the damaged member waits for", func() bool {
		n := row("n2")
		return n.State == conf.NodeRebuilding && n.Mode == conf.ModeRebuilding && strings.Contains(n.Event, "waiting for the leader to take this agent back") && n.Since != ""
	})
	timer := time.NewTimer(3 * time.Second)
	<-timer.C
	if n1.Rooms().Cluster.IsReadyLeader() {
		t.Fatal("the damaged member voted")
	}
	start(t, o[2])
	n2.ready()
	if id := n2.Info().NodeID; id != "n2-r2" {
		t.Fatal(id)
	}
	if v, src := n2.level(); v != "7" || src != "replica" {
		t.Fatalf("%s from %s", v, src)
	}
	n1.Await("the status to tell what it did", func() bool {
		n := row("n2-r2")
		return n.Mode == conf.ModeNormal && n.Event == "rebuilt from the cluster as n2-r2" && n.Since != ""
	})
}

// A sidecar never votes: it keeps its name, and is fed again.
func TestSidecarThatLostItsLogIsFedAgain(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	o := joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
	side := start(t, o).ready()
	if code, body := n1.set("8"); code != http.StatusOK {
		t.Fatal(body)
	}
	side.Await("the value", func() bool { v, _ := side.level(); return v == "8" })
	side.Await("a log that is noted", side.Rooms().Cluster.HasLog)
	for range 2 {
		side.Stop()
		if err := os.RemoveAll(o.RaftDir()); err != nil {
			t.Fatal(err)
		}
		side = start(t, o).ready()
		if id, e := side.Info().NodeID, *side.Health().Event; id != "side" || e != "rebuilt from the cluster" {
			t.Fatalf("%s: %s", id, e)
		}
		if v, src := side.level(); v != "8" || src != "replica" {
			t.Fatalf("%s from %s", v, src)
		}
		side.Await("a log that is noted", side.Rooms().Cluster.HasLog)
	}
}

// A member whose database is being rebuilt from the log knows the other members still: after
// a restart in that moment it finds them, whatever else is damaged by then.
func TestMembersAreKeptWhileTheDatabaseIsRebuilt(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	r[0].lead(r[1], r[2])
	for _, a := range []int{2, 1, 0} {
		r[a].Stop()
	}
	for _, p := range []string{o[2].DBPath, o[2].DBPath + "-wal", o[2].DBPath + "-shm"} {
		_ = os.Remove(p)
	}
	alone := start(t, o[2]) // nobody tells it how much of its log is committed
	alone.Await("it to wait for a leader", func() bool {
		event := alone.Health().Event
		return event != nil && *event == "waiting for a leader"
	})
	if got := len(alone.Rooms().Cluster.OtherServers()); got != 2 {
		t.Errorf("it knows of %d other servers", got)
	}
	alone.Stop()
	if err := os.WriteFile(filepath.Join(o[2].RaftDir(), "raft.db"), bytes.Repeat([]byte("not a log "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	r[0], r[1] = start(t, o[0]), start(t, o[1])
	r[0].Await("a leader", func() bool { return r[0].Rooms().Cluster.IsReadyLeader() || r[1].Rooms().Cluster.IsReadyLeader() })
	back := start(t, o[2]).ready()
	back.Await("the value", func() bool { v, _ := back.level(); return v == "7" })
}
