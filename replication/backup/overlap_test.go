package backup_test

import (
	"flag"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/testenv"
)

var overlaps = flag.Int("overlaps", 2, "how often a deposed leader writes on beside its successor")

// overlap lets two machines with the same entries, in files that differ, back up at
// the same time, as a leader that does not know yet that it was deposed.
func overlap(t *testing.T, target backup.Target, term uint64, shared string) (a, b *machine) {
	t.Helper()
	a, b = newMachine(t), newMachine(t)
	// The files of two nodes are never the same.
	if _, err := b.db.Exec("CREATE TABLE other (x)"); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if _, err := b.db.Exec("INSERT INTO other VALUES (zeroblob(3000))"); err != nil {
			t.Fatal(err)
		}
	}
	a.apply(40)
	b.apply(40)
	oa, ob := a.options(target, term, "zombie"), b.options(target, term+1, "leader")
	oa.SharedPath, ob.SharedPath = shared, shared
	oa.SyncEvery, ob.SyncEvery = 15*time.Millisecond, 15*time.Millisecond
	oa.Logger, ob.Logger = nil, nil
	ra := backup.Start(oa)
	testenv.Await(t, "the first one to copy", func() bool { return ra.Status().Index > 0 })
	rb := backup.Start(ob)
	var both sync.WaitGroup
	for _, m := range []*machine{a, b} {
		both.Go(func() {
			for range 60 {
				m.apply(1)
				if _, err := m.db.Exec("DELETE FROM entries WHERE idx < 0"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	testenv.Await(t, "the second one to copy", func() bool { return rb.Status().Index > 40 || shared != "" })
	both.Wait()
	last := orderly
	if shared != "" { // neither may ever get there
		last = grace
	}
	ra.Stop(last(t))
	rb.Stop(last(t))
	return a, b
}

// TestZombieWritesItsOwn: neither of two that write at once damages the other's copy.
func TestZombieWritesItsOwn(t *testing.T) {
	t.Parallel()
	target := backup.Target{Endpoint: "file://" + t.TempDir()}
	for i := range *overlaps {
		term := uint64(2*i + 1) //nolint:gosec // small
		a, b := overlap(t, target, term, "")
		newest := restored(t, target, backup.Selection{})
		if newest.Generation.Term != term+1 || newest.Index != 100 {
			t.Fatalf("overlap %d: the newest is %+v", i, newest)
		}
		holds(t, b, newest)
		old := restored(t, target, backup.Selection{Generation: backupID(term, "zombie")})
		if old.Index != 100 {
			t.Fatalf("overlap %d: the deposed one's copy holds %d", i, old.Index)
		}
		holds(t, a, old)
	}
}

func backupID(term uint64, node string) string {
	return epoch + "/" + uitoa(term) + "-" + node
}

// TestSharedPathIsCorrupt shows that this test can fail: with one path for both, as
// a tool that knows of no leaders has it, what is restored is broken.
func TestSharedPathIsCorrupt(t *testing.T) {
	t.Parallel()
	broken := 0
	for range 10 {
		target := backup.Target{Endpoint: "file://" + t.TempDir()}
		a, b := overlap(t, target, 1, epoch+"/1-shared")
		got, err := backup.Restore(t.Context(), target, backup.Selection{}, filepath.Join(t.TempDir(), "r.db"), check, nil)
		if err != nil {
			t.Logf("as expected: %v", err)
			broken++
			break
		}
		da, _ := a.digest(got.Index)
		db, _ := b.digest(got.Index)
		if got.Digest != da && got.Digest != db {
			t.Log("as expected: what was restored never was")
			broken++
			break
		}
	}
	if broken == 0 {
		t.Error("two writers on one path did no harm: the test of the overlaps proves nothing")
	}
}

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }
