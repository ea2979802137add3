package agent_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/testenv"
)

// store is what a leader does for a rotation before anybody hears of it.
func (r *running) storeNext(kind string) string {
	r.T.Helper()
	if kind == conf.KeyCA {
		ca, err := pki.NextCA(r.Rooms().Cluster.Port.Identity().CA, time.Now())
		if err == nil {
			err = pki.SaveNextCA(r.Options.TLSDir(), ca)
		}
		if err != nil {
			r.T.Fatal(err)
		}
		return ca.Hash()
	}
	m, err := keys.NewMaterial(kind, "")
	if err == nil {
		r.storeKey(m, r.Rooms().Keys.Keyring().Active(kind).ID)
	}
	if err != nil {
		r.T.Fatal(err)
	}
	return m.ID
}

func (r *running) has(kind, id string) bool {
	if kind == conf.KeyCA {
		ca, err := pki.LoadNextCA(r.Options.TLSDir())
		return err == nil && ca.Hash() == id
	}
	return r.Rooms().Keys.Set().Holds(kind, id)
}

// The log names a key when the other servers have it already.
func TestHandedOverBeforeAnnounced(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	r[0].Await("a keyring", func() bool { return testStatus{r[0].keyring()}.active(conf.KeyCA) != "" })
	for _, a := range r[1:] {
		a.Await("the keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyCA) != "" })
		a.Rooms().Recovery.SetPending(&recovery.Pending{}) // it does not look for announced keys by itself
	}
	for _, kind := range conf.KeyKinds() {
		r[0].lead(r[1:]...)
		rot, code, body := r[0].changeKey(kind, "prepare")
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", kind, code, body)
		}
		for _, w := range rot.Waiting {
			if strings.Contains(w, "--abort") {
				t.Errorf("%s: %q, and everybody has it", kind, w)
			}
		}
		var without []string // a server that stalls is not waited for
		for _, a := range r {
			if !a.has(kind, rot.KeyID) {
				without = append(without, a.Rooms().Cluster.Self())
			}
		}
		if len(without) > 1 {
			t.Errorf("%s: the key is announced, and %s do not have it", kind, without)
		}
	}
}

// A leader that dies permanently between the two leaves the key to the other members: the
// next leader announces it, and once the dead one is taken out it is put to use.
func TestLeaderDiesBeforeTheAnnouncement(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	n1 := r[0]
	for _, a := range r {
		a.Await("a keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyMaster) != "" })
	}
	n1.lead(r[1:]...)
	n1.Rooms().Recovery.SetPending(&recovery.Pending{}) // it does not get to announce what it stored
	id := n1.storeNext(conf.KeyMaster)
	if err := n1.Rooms().Rotation.Distribute(t.Context(), conf.KeyMaster, id); err != nil {
		t.Fatal(err)
	}
	if (testStatus{r[1].keyring()}).state(conf.KeyMaster, id) != "" {
		t.Fatal("it is announced: this test shows nothing")
	}
	// It dies, and does not answer once more that it has the key while it stops.
	if err := n1.Rooms().Cluster.Port.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.Stop()
	n2 := r[1]
	n2.Await("the key announced by the next leader", func() bool { return testStatus{n2.keyring()}.state(conf.KeyMaster, id) != "" })
	n2.Await("for whom it waits, and the way out", func() bool {
		for _, rot := range n2.keyring().Rotations {
			if rot.KeyID == id && strings.Contains(strings.Join(rot.Waiting, "\n"), "holdfast cluster remove n1") {
				return true
			}
		}
		return false
	})
	n2.Await("the removal of the dead one", func() bool {
		code, _, _ := n2.Call("POST", n2.Info().AdminURL+"/api/config/cluster/members/n1/remove", "", "X-API-Token", testenv.WriteToken)
		return code == http.StatusOK
	})
	n2.Await("the key in use", func() bool { return testStatus{n2.keyring()}.active(conf.KeyMaster) == id })
}

// A key that fewer than a majority can take is not announced, and nothing is left of
// it; nor of one that was handed out and then not announced.
func TestHandoverFails(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	for _, a := range r {
		a.Await("a keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyCA) != "" })
	}
	r[0].lead(r[1:]...)
	before := testStatus{r[0].keyring()}
	var busy []*sync.Mutex
	for _, a := range r[1:] {
		mu := field[sync.Mutex](a.Rooms().Rotation, "mu")
		mu.Lock()
		busy = append(busy, mu)
	}
	for _, kind := range []string{conf.KeyMaster, conf.KeyCA} {
		if _, code, body := r[0].answerTo(kind, "rotate", r[0].Once); code != http.StatusServiceUnavailable || !strings.Contains(body, "nothing was announced") {
			t.Errorf("%s: %d %s", kind, code, body)
		}
	}
	for _, mu := range busy {
		mu.Unlock()
	}
	st := testStatus{r[0].keyring()}
	if len(st.Rotations) > 0 || st.active(conf.KeyMaster) != before.active(conf.KeyMaster) {
		t.Errorf("a rotation began: %+v", st.Rotations)
	}
	if main, old := r[0].Rooms().Keys.Set().IDs(conf.KeyMaster); main != before.active(conf.KeyMaster) || old != "" {
		t.Errorf("left at the leader: %s after %s", main, old)
	}
	if _, err := pki.LoadNextCA(r[0].Options.TLSDir()); err == nil {
		t.Error("a CA is left at the leader")
	}

	r[0].lead(r[1:]...)
	r[0].Rooms().Recovery.SetPending(&recovery.Pending{})
	made := map[string]string{}
	for _, kind := range conf.KeyKinds() {
		made[kind] = r[0].storeNext(kind)
		if err := r[0].Rooms().Rotation.Distribute(t.Context(), kind, made[kind]); err != nil {
			t.Fatal(kind, err)
		}
		r[0].discardNext(kind, made[kind])
	}
	r[0].Rooms().Recovery.SetPending(nil)
	for kind, id := range made {
		for _, a := range r[1:] {
			if !a.has(kind, id) {
				t.Fatalf("%s does not have the %s key", a.Rooms().Cluster.Self(), kind)
			}
		}
	}
	for _, a := range r[1:] {
		mu := field[sync.Mutex](a.Rooms().Rotation, "mu")
		mu.Lock()
		*field[time.Duration](a.Rooms().Rotation, "pendingTTL") = 0
		mu.Unlock()
	}
	for kind, id := range made {
		for _, a := range r[1:] {
			a.Await("the "+kind+" key to be given back", func() bool { return !a.has(kind, id) })
		}
	}
	// From another member than the leader nothing is taken.
	err := r[1].Rooms().Cluster.Call(t.Context(), "n3", "/keys/take", map[string]string{"kind": conf.KeyMaster, "id": made[conf.KeyMaster]}, nil)
	if conf.CodeOf(err) != conf.CodeDenied {
		t.Errorf("taken from one that does not lead: %v", err)
	}
}
