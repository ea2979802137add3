package recovery

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// A backup is put in place only when known keys signed all of it.
func TestBackupOfStrangersIsRefused(t *testing.T) {
	for _, tc := range []struct {
		total, ours int
		ok          bool
	}{{0, 0, true}, {3, 3, true}, {3, 0, false}, {3, 2, false}, {3, 1, false}} {
		if err := checkSignerCounts(tc.total, tc.ours, ".env"); (err == nil) != tc.ok || err != nil && (conf.CodeOf(err) != conf.CodeDenied || conf.HintOf(err) == "") {
			t.Errorf("%d of %d: %v", tc.ours, tc.total, err)
		}
	}
}

func TestProven(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer := seal.NewSigner(private)
	u := signer.Sign("demo", []byte(`{"a":1}`), "e", time.Now())
	good := &conf.Record{
		Service: "demo", Version: 1, Epoch: u.Epoch, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: signer.KeyID(),
	}
	trusted := map[string]ed25519.PublicKey{seal.KeyID(public): public}
	for name, tc := range map[string]struct {
		change func(*conf.Record)
		ok     bool
	}{
		"as it was signed":             {func(*conf.Record) {}, true},
		"another document":             {func(r *conf.Record) { r.Config = []byte(`{"a":2}`) }, false},
		"another document and its sum": {func(r *conf.Record) { r.Config = []byte(`{"a":2}`); r.Checksum = seal.Checksum(r.Config) }, false},
		"another epoch":                {func(r *conf.Record) { r.Epoch = "f" }, false},
		"a foreign key":                {func(r *conf.Record) { r.KeyID = "0011223344556677" }, true}, // docs/threat-model.md
		"a foreign key, damaged":       {func(r *conf.Record) { r.KeyID = "0011223344556677"; r.Config = []byte(`{"a":2}`) }, false},
	} {
		r := *good
		tc.change(&r)
		if err := VerifyRecord(&r, trusted); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is staged is verified with its service: each version by its own key.
func TestStagedVersionsAreVerified(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer := seal.NewSigner(private)
	trusted := map[string]ed25519.PublicKey{seal.KeyID(public): public}
	signed := func(version uint64, doc string) conf.SignedVersion {
		u := signer.Sign("demo", []byte(doc), "e", time.Now())
		return conf.SignedVersion{
			Version: version, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: signer.KeyID(),
			VersionSignature: signer.SignVersion("demo", "e", version, u.Checksum),
		}
	}
	for name, c := range map[string]struct {
		change func(*conf.Staged)
		ok     bool
	}{
		"as they were signed":  {func(*conf.Staged) {}, true},
		"another candidate":    {func(s *conf.Staged) { s.Rollout.Candidate.Config = []byte(`{"a":9}`) }, false},
		"another revert":       {func(s *conf.Staged) { s.Rollout.Revert.Checksum = s.Rollout.Candidate.Checksum }, false},
		"another kept revert":  {func(s *conf.Staged) { s.Kept.Signature = s.Rollout.Revert.Signature }, false},
		"a foreign key, whole": {func(s *conf.Staged) { s.Kept.KeyID = "0011223344556677" }, true},
	} {
		stable, kept := signed(7, `{"a":1}`), signed(5, `{"a":0}`)
		rec := stable.Record(&conf.Record{Service: "demo", Epoch: "e"}, "", "")
		rec.Staged = &conf.Staged{Floor: 9, Kept: &kept, Rollout: &conf.Rollout{Candidate: signed(8, `{"a":2}`), Revert: signed(9, `{"a":1}`)}}
		c.change(rec.Staged)
		if err := VerifyRecord(rec, trusted); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
