package store

import (
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestKeyring(t *testing.T) {
	d := newDriver(t, openNew(t))
	newKey := func(sec int, id string) *command.Keyring {
		return &command.Keyring{At: at(sec), By: "ann", Announce: []command.NewKey{{Kind: conf.KeySigning, ID: id, Public: "p" + id, Proof: "x"}}}
	}
	turn := func(sec int, id string, until int) *command.Keyring {
		return &command.Keyring{At: at(sec), Activate: []command.KeyActivation{{Kind: conf.KeySigning, ID: id, OldUntil: at(until)}}}
	}
	end := func(sec int, id string) *command.Keyring {
		return &command.Keyring{At: at(sec), End: []command.KeyExpiry{{Kind: conf.KeySigning, ID: id, NotAfter: at(sec)}}}
	}
	ok := func(c command.Command) {
		t.Helper()
		for range 2 { // twice is once
			if res, _ := d.apply(c); res[0].Err != nil {
				t.Fatal(res[0].Err)
			}
		}
	}
	states := func(sec int, want map[string]string) {
		t.Helper()
		ring, err := d.s.Queries.Keyring(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(ring) != len(want) {
			t.Fatalf("%d keys, want %d", len(ring), len(want))
		}
		for _, k := range ring {
			if got := k.State(at(sec)); got != want[k.ID] {
				t.Errorf("key %s is %s, want %s", k.ID, got, want[k.ID])
			}
		}
	}
	ok(newKey(1, "a"))
	d.rejected(newKey(2, "b"), conf.CodeConflict, "not in use yet")
	d.rejected(turn(2, "b", 3), conf.CodeNotFound, "not announced")
	ok(turn(3, "a", 0))
	d.rejected(end(4, "a"), conf.CodeConflict, "in use")
	ok(newKey(5, "b"))
	states(5, map[string]string{"a": conf.KeyActive, "b": conf.KeyAnnounced})
	ok(turn(6, "b", 100))
	states(99, map[string]string{"a": conf.KeyOld, "b": conf.KeyActive})
	states(101, map[string]string{"a": conf.KeyExpired, "b": conf.KeyActive})
	d.rejected(turn(7, "a", 100), conf.CodeConflict, "at its end")
	d.rejected(newKey(7, "a"), conf.CodeConflict, "announced before")
	ok(newKey(8, "c"))
	ok(end(9, "c"))
	ok(end(10, "a"))
	states(11, map[string]string{"a": conf.KeyExpired, "b": conf.KeyActive, "c": conf.KeyWithdrawn})
	ok(newKey(12, "d"))
}
