package agent_test

import (
	"reflect"
	"unsafe"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// field points at an unexported field, for faults that no interface can make.
func field[T any](of any, name string) *T {
	return (*T)(unsafe.Pointer(reflect.ValueOf(of).Elem().FieldByName(name).UnsafeAddr()))
}

// storeKey makes a key the main one on this agent's disk, and old the one before it.
func (r *running) storeKey(m keys.Material, old string) {
	r.T.Helper()
	set, err := keys.Rotate(r.Options.Env, r.Options.EnvFile, m, old, keys.Options{Role: string(r.Rooms().Cluster.Port.Identity().Role), Joined: true})
	if err != nil {
		r.T.Fatal(err)
	}
	r.Rooms().Holder.Store(set)
}

// discardNext takes back what storeNext stored.
func (r *running) discardNext(kind, id string) {
	r.T.Helper()
	if kind == conf.KeyCA {
		if err := pki.DropNextCA(r.Options.TLSDir()); err != nil {
			r.T.Fatal(err)
		}
		return
	}
	set, err := keys.Undo(r.Options.Env, r.Options.EnvFile, kind, id, keys.Options{Role: string(r.Rooms().Cluster.Port.Identity().Role), Joined: true})
	if err != nil {
		r.T.Fatal(err)
	}
	r.Rooms().Holder.Store(set)
}

// heldKeys is what this agent reports of its keys.
func (r *running) heldKeys() map[string]conf.KeysHeld {
	r.T.Helper()
	st, err := r.Rooms().Rotation.Keys(r.T.Context())
	if err != nil {
		return nil
	}
	for _, m := range st.Members {
		if m.NodeID == r.Rooms().Cluster.Self() {
			return m.Holds
		}
	}
	return nil
}
