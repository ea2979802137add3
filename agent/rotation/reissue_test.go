package rotation

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// The signatures themselves say when they are due, whichever leader made them.
func TestReissueIsDueByTheOldestSignature(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := documents.NewView(documents.NewSecrets(documents.SecretsOptions{Logger: slog.New(slog.DiscardHandler)}))
	rec := func(service string, issued time.Time) *conf.Record {
		return &conf.Record{Service: service, Version: 1, Epoch: "e", Config: json.RawMessage("{}"), Signature: "s", IssuedAt: conf.FormatTime(issued)}
	}
	v.Reset(view.SourceReplica, "e", 1, []*conf.Record{rec("demo", at), rec("newer", at.Add(time.Second))})
	for _, c := range []struct{ passed, want time.Duration }{
		{0, 4 * time.Minute}, {time.Minute, 3 * time.Minute}, {time.Hour, -56 * time.Minute}, {-time.Hour, 4 * time.Minute},
	} {
		if got := reissueIn(v.Load(), 4*time.Minute, at.Add(c.passed)); got != c.want {
			t.Errorf("%s after the signature: due in %s, want %s", c.passed, got, c.want)
		}
	}
}

// What is signed of a rollout counts as what is stable does: for the age of the oldest
// signature, for one that is ahead of the clock, and for the keys that are in use.
func TestRolloutsCountAsSigned(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := documents.NewView(documents.NewSecrets(documents.SecretsOptions{Logger: slog.New(slog.DiscardHandler)}))
	signed := func(version uint64, key string, issued time.Time) conf.SignedVersion {
		return conf.SignedVersion{Version: version, KeyID: key, Signature: "s", VersionSignature: "s", IssuedAt: conf.FormatTime(issued)}
	}
	show := func(candidate, revert, kept time.Time) {
		held := signed(5, "k4", kept)
		rec := &conf.Record{
			Service: "demo", Version: 7, Epoch: "e", Config: json.RawMessage("{}"), Signature: "s", KeyID: "k1", IssuedAt: conf.FormatTime(at),
			Staged: &conf.Staged{Floor: 9, Kept: &held, Rollout: &conf.Rollout{Candidate: signed(8, "k2", candidate), Revert: signed(9, "k3", revert)}},
		}
		v.Reset(view.SourceReplica, "e", 1, []*conf.Record{rec})
	}
	late, ahead := at.Add(-time.Minute), at.Add(conf.MaxLead+time.Minute)
	for i, c := range []struct{ candidate, revert, kept time.Time }{{late, at, at}, {at, late, at}, {at, at, late}} {
		show(c.candidate, c.revert, c.kept)
		if got := reissueIn(v.Load(), 4*time.Minute, at); got != 3*time.Minute {
			t.Errorf("%d is the oldest: due in %s", i, got)
		}
	}
	show(at, ahead, at)
	if got := reissueIn(v.Load(), 4*time.Minute, at); got != 0 {
		t.Errorf("a time that is ahead: due in %s", got)
	}
	by := signedBy(v)
	if len(by) != 4 || by["k1"] != 1 || by["k2"] != 1 || by["k3"] != 1 || by["k4"] != 1 {
		t.Errorf("keys in use: %v", by)
	}
}
