package agent_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestLogDeletedWhileRunning: an agent notices that raft/ was deleted while it runs, and
// makes the log again: alone from its database, a member from the cluster.
func TestLogDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	deleted := func(r *running) {
		t.Helper()
		if err := os.RemoveAll(r.Options.RaftDir()); err != nil {
			t.Fatal(err)
		}
		r.Await("a log again", func() bool {
			_, err := os.Stat(filepath.Join(r.Options.RaftDir(), "raft.db"))
			return err == nil && r.Health().OK && r.Health().OperationalMode == conf.ModeNormal
		})
	}
	if code, body := n1.set("7"); code != http.StatusOK {
		t.Fatal(body)
	}
	deleted(n1)
	if v, _ := n1.level(); v != "7" {
		t.Fatal(v)
	}
	n2 := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)).ready()
	n3 := start(t, joining(t, n1, "n3", n1.joinToken(conf.MemberServer).Token)).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	n1.Await("three voters", func() bool { return n1.status().Voters == 3 })
	n1.lead(n2, n3)
	if err := os.RemoveAll(filepath.Join(n3.Options.RaftDir(), "segments")); err != nil {
		t.Fatal(err)
	}
	n3.Await("the segments of the log again", func() bool {
		_, err := os.Stat(filepath.Join(n3.Options.RaftDir(), "segments"))
		return err == nil && n3.Health().OK && n3.Health().OperationalMode == conf.ModeNormal
	})
	deleted(side)
	n1.Await("three voters again", func() bool { return n1.status().Voters == 3 }) // else two logs of three are gone at once
	deleted(n2)
	n1.Await("a change", func() bool { code, _ := n1.set("8"); return code == http.StatusOK })
	for _, r := range []*running{n2, side} {
		r.Await("the change", func() bool { v, _ := r.level(); return v == "8" })
	}
}
