package recovery

import (
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

type onlyStore struct{ st *store.Store }

func (s onlyStore) Store() *store.Store                                 { return s.st }
func (onlyStore) Node() *replication.Node                               { return nil }
func (onlyStore) PublicKeys() map[string]ed25519.PublicKey              { return nil }
func (onlyStore) Signer() *seal.Signer                                  { return nil }
func (onlyStore) SignEpoch(string, string, time.Time) *conf.EpochChange { return nil }

// A restore of a backup in which a rollout ran, with newer values of an agent: the stable
// values of that agent count, and the number is above all that the backup gave out.
func TestNewerValuesAreTheStableOnes(t *testing.T) {
	st, err := store.Open(t.Context(), schemas.StoreOptions(filepath.Join(t.TempDir(), "config.db"), schema.NewCache(), slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	at := "2026-01-02T03:04:05+00:00"
	signed := func(v uint64, doc string) conf.SignedVersion {
		return conf.SignedVersion{Version: v, Values: json.RawMessage(doc), Config: json.RawMessage(doc), Checksum: seal.Checksum([]byte(doc)), IssuedAt: at, Signature: "s", KeyID: "k"}
	}
	one := signed(1, `{"a":1}`)
	entries := []command.Command{
		&command.Genesis{Epoch: "e1", At: at},
		&command.Edit{Epoch: "e1", At: at, Action: command.ActionPut, Updates: []command.Update{{
			Service: "demo", Version: 1, Values: one.Values, Config: one.Config, Checksum: one.Checksum, IssuedAt: at, Signature: "s", KeyID: "k",
		}}},
		&command.Rollout{
			Epoch: "e1", At: at, Action: command.RolloutStart, Service: "demo", Rollout: "demo-2-0a1b2c", Candidate: 2, Target: &conf.Target{},
			Begin: &command.RolloutBegin{Prev: 1, Candidate: signed(2, `{"a":2}`), Revert: signed(3, `{"a":1}`), Plan: conf.RolloutPlan{Steps: make([]conf.RolloutStep, 1)}},
		},
		&command.Genesis{Epoch: "e2", At: at, Keep: true},
	}
	for i, c := range entries {
		res, _, err := st.Apply(t.Context(), []store.Entry{{Index: uint64(i + 1), Term: 1, Command: c}})
		if err != nil || res[0].Err != nil {
			t.Fatalf("%d: %v, %v", i, err, res[0].Err)
		}
	}
	// The agent had version 4 as stable, and was in a rollout of it.
	stable, kept := signed(4, `{"a":4}`), signed(3, `{"a":1}`)
	newer := stable.Record(&conf.Record{Service: "demo", Epoch: "e1"}, at, "ann")
	newer.Staged = &conf.Staged{Floor: 6, Kept: &kept, Rollout: &conf.Rollout{ID: "demo-5-0a1b2c", Candidate: signed(5, `{"a":5}`), Revert: signed(6, `{"a":4}`)}}
	other := *newer
	other.Service = "lost"
	m := New(Options{Keys: onlyStore{}, Logger: slog.New(slog.DiscardHandler)})
	old, _, err := m.recordsOfOldEpoch(t.Context(), onlyStore{st}, &Pending{Epoch: "e2", OldEpoch: "e1", newer: []*conf.Record{newer, &other}})
	if err != nil || len(old) != 2 {
		t.Fatalf("%d records, %v", len(old), err)
	}
	if r := old[0]; r.Service != "demo" || r.Version != 1 || r.Floor() != 3 || string(r.Config) != `{"a":4}` || r.Staged.Rollout != nil || r.Staged.Kept != nil {
		t.Errorf("%+v, %+v", r, r.Staged)
	}
	if r := old[1]; r.Service != "lost" || r.Version != 0 || r.Floor() != 0 || string(r.Config) != `{"a":4}` || r.Staged != nil {
		t.Errorf("%+v", r)
	}
}
