package agent_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func TestClusterLivesOnInOneServer(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	oldEpoch := r[1].Health().ConfigEpoch
	r[0].keepSecret()
	r[1].Await("the secret", func() bool { v, _ := r[1].secret(passwordPath); return v == `"canary-secret-value"` })
	before := r[1].records().Record("demo")
	_, err := recovery.Recover(t.Context(), o[1], r[1].Log)
	if conf.CodeOf(err) != conf.CodeUsage {
		t.Fatalf("while the agent runs: %v", err)
	}
	for _, a := range r {
		a.Stop()
	}
	rec, err := recovery.Recover(t.Context(), o[1], r[1].Log)
	if err != nil {
		t.Fatal(err)
	}
	if rec.NodeID != "n2" || rec.OldEpoch != oldEpoch || rec.Source != "log" || strings.Join(rec.Lost, ",") != "n1,n3" {
		t.Fatalf("%+v", rec)
	}
	// Cut short: the agent does not start a half recovered cluster, and doing it
	// again comes to the same epoch.
	data, err := os.ReadFile(o[1].ClusterFile())
	if err != nil {
		t.Fatal(err)
	}
	var saved peers.SavedState
	if err := json.Unmarshal(data, &saved); err != nil {
		t.Fatal(err)
	}
	saved.Joined = true
	if err := lkg.WriteJSON(o[1].ClusterFile(), saved, 0o600); err != nil {
		t.Fatal(err)
	}
	n2 := start(t, o[1])
	n2.Await("a refusal", func() bool {
		h := n2.Health()
		return h.Err != nil && strings.Contains(*h.Err, "cut short")
	})
	if v, _ := n2.level(); v != "7" {
		t.Fatal(v)
	}
	n2.Stop()
	again, err := recovery.Recover(t.Context(), o[1], n2.Log)
	if err != nil || again.NewEpoch != rec.NewEpoch || again.OldEpoch != oldEpoch {
		t.Fatalf("%+v, %v", again, err)
	}

	n2 = start(t, o[1]).ready()
	h := n2.Health()
	if h.ConfigEpoch != rec.NewEpoch || !strings.Contains(*h.Event, "recovered") {
		t.Fatalf("%+v", h)
	}
	after := n2.records().Record("demo")
	if after.Version != before.Version+1 || after.Epoch != rec.NewEpoch || string(after.Values) != string(before.Values) || after.Signature == before.Signature {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	if v, _ := n2.secret(passwordPath); v != `"canary-secret-value"` {
		t.Fatalf("the secret in the new epoch: %s", v)
	}
	if body := n2.must("POST", "services/vault/secrets/db.password/reveal", `{"reason":"r"}`); !strings.Contains(body, "canary-secret-value") {
		t.Fatal(body)
	}
	if code, body := n2.set("12"); code != http.StatusOK {
		t.Fatal(body)
	}
	// The whole past is there.
	if _, err := n2.Rooms().Backend.VersionValues(t.Context(), "demo", before.Version); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o[1].RecoverPending()); err == nil {
		t.Fatal("recover.pending stays")
	}
	// An old member with the old data is not let back, and serves what it has.
	n3 := start(t, o[2])
	n3.Await("it hears that it is out", func() bool {
		h := n3.Health()
		return h.Err != nil && strings.Contains(*h.Err, "no longer a member")
	})
	if v, _ := n3.level(); v != "7" {
		t.Fatal(v)
	}
	if n2.Rooms().Cluster.IsSingleNode() == false || len(n2.Rooms().Replicas.Servers()) != 1 {
		t.Fatalf("%+v", n2.Rooms().Replicas.Servers())
	}
	n3.Stop()
	// It joins again, under its old name.
	n3 = start(t, joining(t, n2, "n3", n2.joinToken(conf.MemberServer).Token)).ready()
	n3.Await("the value", func() bool { v, _ := n3.level(); return v == "12" })
	n2.Await("one state", func() bool { return sameDigests(n2.status(), 2) })
	// The recovered server starts again like any other.
	n2.Stop()
	n2 = start(t, o[1]).ready()
	if n2.Health().ConfigEpoch != rec.NewEpoch {
		t.Fatal(n2.Health().ConfigEpoch)
	}
}

func TestRecoverFromTheDatabaseAlone(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	for _, a := range r {
		a.Stop()
	}
	flip(t, filepath.Join(o[2].RaftDir(), "raft.db"))
	rec, err := recovery.Recover(t.Context(), o[2], r[2].Log)
	if err != nil || rec.Source != "database" {
		t.Fatalf("%+v, %v", rec, err)
	}
	n3 := start(t, o[2]).ready()
	if v, src := n3.level(); v != "7" || src != "replica" || n3.Health().ConfigEpoch != rec.NewEpoch {
		t.Fatalf("%s from %s", v, src)
	}
	if code, body := n3.set("8"); code != http.StatusOK {
		t.Fatal(body)
	}
}

func TestRecoverRefuses(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	if _, err := recovery.Recover(t.Context(), o, nil); conf.CodeOf(err) != conf.CodeUsage {
		t.Fatalf("no directory: %v", err)
	}
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	side := joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
	s := start(t, side).ready()
	s.Stop()
	if _, err := recovery.Recover(t.Context(), side, s.Log); conf.CodeOf(err) != conf.CodeUnsupported {
		t.Fatalf("a sidecar: %v", err)
	}
	alone := start(t, testenv.Options(t, nil)).ready()
	alone.Stop()
	if _, err := recovery.Recover(t.Context(), alone.Options, alone.Log); conf.CodeOf(err) != conf.CodeConflict {
		t.Fatalf("a lone agent: %v", err)
	}
	// What cannot be read is not taken for nothing.
	if err := lkg.WriteJSON(alone.Options.RecoverPending(), map[string]string{"config_epoch": ""}, 0o600); err != nil {
		t.Fatal(err)
	}
	alone = start(t, alone.Options)
	alone.Await("a refusal", func() bool {
		h := alone.Health()
		return h.Err != nil && strings.Contains(*h.Err, "recover.pending")
	})
}

func (r *running) records() documents.Records { return documents.Records{View: r.Rooms().View} }
