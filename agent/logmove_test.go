package agent_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// The members of a cluster have their logs in different places. Each is started with the
// other setting, and moves its log; without a setting it stays where it is.
func TestLogsOfBothKinds(t *testing.T) {
	t.Parallel()
	where := func(r *running) string {
		if _, err := os.Stat(filepath.Join(r.Options.RaftDir(), "segments")); err == nil {
			return "wal"
		}
		return "boltdb"
	}
	first := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t), "CONFIG_RAFT_LOG": "boltdb"})
	nodes := []*running{start(t, first).ready()}
	for i, kind := range []string{"wal", ""} {
		o := joining(t, nodes[0], "n"+strconv.Itoa(i+2), nodes[0].joinToken(conf.MemberServer).Token)
		o.RaftLog = kind
		nodes = append(nodes, start(t, o).ready())
	}
	nodes[0].Await("three voters", func() bool { return nodes[0].status().Voters == 3 })
	for i, want := range []string{"boltdb", "wal", "wal"} {
		if got := where(nodes[i]); got != want {
			t.Errorf("n%d has its log in %s, want %s", i+1, got, want)
		}
	}
	level := 1
	change := func(r *running) {
		t.Helper()
		level++
		r.Await("a change", func() bool { code, _ := r.set(strconv.Itoa(level)); return code == http.StatusOK })
		for _, n := range nodes {
			n.Await("the change", func() bool { v, _ := n.level(); return v == strconv.Itoa(level) })
		}
	}
	change(nodes[0])
	for _, kinds := range [][]string{{"wal", "boltdb", "boltdb"}, {"", "wal", ""}} {
		for i, kind := range kinds {
			o := nodes[i].Options
			before := where(nodes[i])
			nodes[i].Stop()
			o.RaftLog, o.Join, o.JoinToken = kind, "", ""
			nodes[i] = start(t, o).ready()
			if want := map[bool]string{true: before, false: kind}[kind == ""]; where(nodes[i]) != want {
				t.Errorf("n%d has its log in %s, want %s", i+1, where(nodes[i]), want)
			}
			change(nodes[(i+1)%3])
		}
	}
}
