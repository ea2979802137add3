package backup_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

const (
	stranger = "b6f6d7f3-2f0c-4a8c-8a3d-7f9b1f3c2d1e" // the epoch of another cluster
	next     = "c1a9a0de-0c55-4d5e-9f0b-2b6a4c8e7f10" // follows on epoch
)

// life is one leadership of a cluster, which copied and was verified.
func life(t *testing.T, m *machine, target backup.Target, of, created string, previous []string, keys ...string) *backup.Runner {
	t.Helper()
	o := m.options(target, 1, "n")
	o.Epoch, o.EpochCreated, o.Previous, o.Keys = of, created, previous, func() []string { return keys }
	o.Check = func(ctx context.Context, file string) (backup.Content, error) {
		c, err := check(ctx, file)
		c.Epoch = of
		return c, err
	}
	r := start(t, o)
	testenv.Await(t, "the drill", func() bool { return r.Status().Verified != nil })
	return r
}

// TestTwoClusters: two clusters that were given one place by mistake see each other,
// touch nothing of each other, and are not taken for each other.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	target := backup.Target{Endpoint: "file://" + t.TempDir(), Path: "prod"}
	a, b := newMachine(t), newMachine(t)
	a.apply(5)
	b.apply(9)
	first := life(t, a, target, epoch, "2026-01-01T00:00:00Z", nil, "key-a")
	if st := first.Status(); st.ForeignErr != nil || st.Err != nil {
		t.Fatalf("alone: %v", st.Err)
	}
	log := testenv.NewTranscript()
	b.log = slog.New(slog.NewTextHandler(log, nil))
	second := life(t, b, target, stranger, "2026-01-02T00:00:00Z", nil, "key-b")
	testenv.Await(t, "the second cluster to see the first", func() bool {
		st := second.Status()
		return conf.CodeOf(st.Err) == conf.CodeConflict && strings.Contains(st.Err.Error(), epoch) && strings.Contains(st.Err.Error(), "LITESTREAM_S3_PATH")
	})
	first.Stop(grace(t))
	second.Stop(grace(t))
	if got := log.String(); strings.Count(got, alarm.TargetShared.Text) != 1 || strings.Count(got, alarm.TargetShared.End) != 1 {
		t.Errorf("log:\n%s", got)
	}

	gens, err := backup.List(t.Context(), target)
	if err != nil || !slices.Equal(backup.Clusters(gens), []string{stranger, epoch}) {
		t.Fatalf("%+v, %v", gens, err)
	}
	restore := func(sel backup.Selection) (backup.Restored, error) {
		return backup.Restore(t.Context(), target, sel, filepath.Join(t.TempDir(), "r.db"), check, nil)
	}
	for name, id := range map[string]backup.ClusterIdentity{"by its key": {Keys: []string{"key-a"}}, "by its epoch": {Epochs: []string{epoch}}} {
		if got, err := restore(backup.Selection{Own: id}); err != nil || got.Index != 5 || got.Generation.Cluster != epoch {
			t.Errorf("the older cluster %s: %+v, %v", name, got, err)
		}
		if got, err := restore(backup.Selection{Own: id, Generation: "1-n"}); err != nil || got.Index != 5 {
			t.Errorf("a short name of the older cluster %s: %+v, %v", name, got, err)
		}
	}
	for name, sel := range map[string]backup.Selection{
		"nobody's": {}, "of a third key": {Own: backup.ClusterIdentity{Keys: []string{"key-c"}}}, "a short name": {Generation: "1-n"},
	} {
		if _, err := restore(sel); conf.CodeOf(err) != conf.CodeConflict || !strings.Contains(conf.HintOf(err), "--generation") {
			t.Errorf("a restore, %s, is not refused with the way out: %v", name, err)
		}
	}
	if got, err := restore(backup.Selection{Generation: stranger + "/1-n", Own: backup.ClusterIdentity{Keys: []string{"key-a"}}}); err != nil || got.Index != 9 {
		t.Errorf("named in full: %+v, %v", got, err)
	}

	// Neither one's retention removes anything of the other, not even old restarts.
	life(t, a, target, epoch, "2026-01-01T00:00:00Z", nil, "key-a").Stop(grace(t))
	later := time.Now().Add(1000 * time.Hour)
	if removed, err := backup.Prune(t.Context(), target, backup.ClusterIdentity{Keys: []string{"key-b"}}, time.Hour, later); err != nil || len(removed) > 0 {
		t.Errorf("the second removed %v, %v", removed, err)
	}
	if removed, err := backup.Prune(t.Context(), target, backup.ClusterIdentity{}, time.Hour, later); err != nil || len(removed) > 0 {
		t.Errorf("somebody removed %v, %v", removed, err)
	}
	if removed, err := backup.Prune(t.Context(), target, backup.ClusterIdentity{Keys: []string{"key-a"}}, time.Hour, later); err != nil || !slices.Equal(removed, []string{epoch + "/1-n"}) {
		t.Errorf("the first removed %v, %v", removed, err)
	}
}

// TestEarlierEpoch: what a cluster copied before it was restored is its own history.
func TestEarlierEpoch(t *testing.T) {
	t.Parallel()
	target := backup.Target{Endpoint: "file://" + t.TempDir(), Path: "prod"}
	old, now := newMachine(t), newMachine(t)
	old.apply(3)
	now.apply(6)
	before := life(t, old, target, epoch, "2026-01-01T00:00:00Z", nil, "key-a")
	after := life(t, now, target, next, "2026-01-02T00:00:00Z", []string{epoch}, "key-rotated")
	testenv.Await(t, "the place to be looked at", func() bool { return after.Status().Behind == 0 })
	after.Stop(grace(t))
	if st := after.Status(); st.ForeignErr != nil {
		t.Errorf("its own history: %v", st.ForeignErr)
	}
	if got := restored(t, target, backup.Selection{Own: backup.ClusterIdentity{Keys: []string{"key-a"}}}); got.Index != 6 || got.Generation.Cluster != epoch {
		t.Errorf("by the key of then: %+v", got)
	}
	if removed, err := backup.Prune(t.Context(), target, backup.ClusterIdentity{Epochs: []string{next}}, time.Hour, time.Now().Add(2*time.Hour)); err != nil || !slices.Equal(removed, []string{epoch + "/1-n"}) {
		t.Errorf("removed %v of the history, %v", removed, err)
	}
	before.Stop(ended())

	// The old one goes on, though it was replaced: it is told.
	again := life(t, old, target, epoch, "2026-01-01T00:00:00Z", nil, "key-a")
	testenv.Await(t, "the old cluster to see that it was replaced", func() bool {
		st := again.Status()
		return st.ForeignErr != nil && strings.Contains(st.ForeignErr.Error(), next) && strings.Contains(st.ForeignErr.Error(), "not an earlier one")
	})
}
