package agent_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

const noDiskHasThis = 1 << 40 // MiB

func TestChangesAreRefusedBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("5"); code != http.StatusOK {
		t.Fatal(body)
	}
	r.Stop()
	full := o
	full.MinFreeMB = noDiskHasThis
	r = start(t, full).ready()
	r.Await("it is noticed", func() bool { return r.Rooms().Replicas.DiskFull() != nil })
	code, body := r.set("6")
	if code != http.StatusInsufficientStorage || !strings.Contains(body, `"code":"storage_full"`) {
		t.Fatalf("%d %s", code, body)
	}
	if v, _ := r.level(); v != "5" {
		t.Fatal(v)
	}
	if h := r.Health(); h.OK || h.Err == nil || !strings.Contains(*h.Err, "almost full") {
		t.Fatalf("%+v", h)
	}
	r.Stop()
	r = start(t, o).ready()
	if code, body := r.set("6"); code != http.StatusOK {
		t.Fatal(body)
	}
}

func TestLeaderWithoutSpaceHandsOver(t *testing.T) {
	t.Parallel()
	r, o := three(t)
	r[0].Stop()
	o[0].MinFreeMB = noDiskHasThis
	r[0] = start(t, o[0]).ready()
	r[0].Await("a change through it", func() bool { code, _ := r[0].set("9"); return code == http.StatusOK })
	r[0].Await("it was made to lead", func() bool {
		for _, a := range r[1:] {
			if a.Rooms().Cluster.IsReadyLeader() {
				return a.Rooms().Replicas.Current().Node().Transfer(t.Context(), "n1") == nil
			}
		}
		return r[0].Rooms().Cluster.IsReadyLeader()
	})
	r[0].Await("a change although it was made to lead", func() bool {
		code, _ := r[0].set("10")
		return code == http.StatusOK && !r[0].Rooms().Cluster.IsReadyLeader()
	})
}
