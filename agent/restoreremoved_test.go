package agent_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// A backup is not restored under a node id that it has as removed: every other member would
// refuse that agent. The data directory stays as it was, and another id takes it.
func TestRestoreUnderARemovedNodeID(t *testing.T) {
	t.Parallel()
	target := "file://" + t.TempDir()
	o := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t), "LITESTREAM_S3_ENDPOINT": target})
	r := start(t, o).ready()
	gone := start(t, joining(t, r, "n2", r.joinToken(conf.MemberServer).Token)).ready()
	r.remove(gone)
	r.Await("a change after the removal", func() bool { code, _ := r.set("42"); return code == 200 })
	r.Await("the backup", func() bool { b := r.Rooms().Backups.Known(); return b.Verified != nil && b.Behind == 0 })
	env, err := os.ReadFile(o.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	r.Stop()

	place := map[string]string{"CONFIG_NODE_ID": "n2", "LITESTREAM_S3_ENDPOINT": target, "CONFIG_ENV_FILE": filepath.Join(t.TempDir(), "env")}
	if err := os.WriteFile(place["CONFIG_ENV_FILE"], env, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := testenv.Options(t, place)
	_, err = recovery.RestoreCluster(t.Context(), fresh, recovery.RestorePoint{}, r.Log)
	if conf.CodeOf(err) != conf.CodeConflict || !strings.Contains(conf.HintOf(err), "CONFIG_NODE_ID") {
		t.Fatalf("restored under the id of a removed member: %v (%s)", err, conf.HintOf(err))
	}
	if _, err := os.Lstat(fresh.DBPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused restore left a database: %v", err)
	}
	if p, err := recovery.LoadPending(&fresh); p != nil || err != nil {
		t.Errorf("a refused restore is to be continued: %v %v", p, err)
	}
	fresh.NodeID = "n3"
	if _, err := recovery.RestoreCluster(t.Context(), fresh, recovery.RestorePoint{}, r.Log); err != nil {
		t.Fatal(err)
	}
	if v, _ := start(t, fresh).ready().level(); v != "42" {
		t.Errorf("level %s", v)
	}
}
