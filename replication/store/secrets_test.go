package store

import (
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func secretEdit(d *driver, action string, u command.Update, secrets ...command.Secret) *command.Edit {
	e := d.edit(action, u)
	e.Secrets = secrets
	return e
}

func setSecret(key string, n int, keyID string) command.Secret {
	return command.Secret{Service: "a", Key: key, EncryptedValue: sealedText(n), KeyID: keyID}
}

func TestSecrets(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	_, recs := d.ok(secretEdit(d, command.ActionPut, put("a", 0, `{}`), setSecret("z", 1, "m1"), setSecret("b", 2, "m1")))
	if len(recs) != 1 || len(recs[0].Secrets) != 2 || recs[0].Secrets[0].Key != "b" || recs[0].Secrets[1].Value != sealedText(1) {
		t.Fatalf("applied: %+v", recs)
	}
	first := recs[0].Secrets[1]
	_, recs = d.ok(secretEdit(d, command.ActionSecretSet, put("a", 1, `{}`), setSecret("z", 3, "m1")))
	again := recs[0].Secrets[1]
	if again.CreatedAt != first.CreatedAt || again.UpdatedAt == first.UpdatedAt || again.Value != sealedText(3) {
		t.Errorf("replaced %+v by %+v", first, again)
	}

	// A reseal replaces what is unchanged and nothing else, without a version.
	reseal := &command.Reseal{Epoch: testEpoch, At: d.now(), Items: []command.ResealItem{
		{Service: "a", Key: "z", PrevDigest: command.SealedDigest(sealedText(3)), EncryptedValue: sealedText(13), KeyID: "m2"},
		{Service: "a", Key: "b", PrevDigest: command.SealedDigest(sealedText(9)), EncryptedValue: sealedText(12), KeyID: "m2"},
		{Service: "a", Key: "none", PrevDigest: command.SealedDigest(sealedText(9)), EncryptedValue: sealedText(12), KeyID: "m2"},
	}}
	_, recs = d.ok(reseal)
	if len(recs) != 1 || recs[0].Version != 2 {
		t.Fatalf("resealed: %+v", recs)
	}
	want := []conf.SealedSecret{recs[0].Secrets[0], {Key: "z", Value: sealedText(13), KeyID: "m2", CreatedAt: again.CreatedAt, UpdatedAt: again.UpdatedAt}}
	same(t, "resealed", want, recs[0].Secrets)
	same(t, "all records", want, records(t, s)["a"].Secrets)
	if want[0].Value != sealedText(2) {
		t.Error("an item that was made from another value replaced this one")
	}
	ids, err := s.Queries.SecretKeyIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "key ids", map[string]int{"m1": 1, "m2": 1}, ids)
	_, recs = d.ok(reseal) // once more changes nothing
	if len(recs) != 0 {
		t.Errorf("the same reseal again: %+v", recs)
	}
	other := *reseal
	other.Epoch = "another"
	if res, _ := d.apply(&other); res[0].Err == nil || res[0].Err.Code != conf.CodeConflict {
		t.Errorf("a reseal of another epoch: %+v", res[0])
	}

	// The history tells that they changed, and never to what.
	d.ok(secretEdit(d, command.ActionPut, put("a", 2, `{"x":1}`), command.Secret{Service: "a", Key: "b", Deleted: true}, command.Secret{Service: "a", Key: "none", Deleted: true}))
	d.ok(d.edit(command.ActionDelete, tombstone("a", 3)))
	var got []string
	for _, h := range history(t, s, conf.HistoryFilter{}) {
		if h.Key != "x" {
			got = append([]string{h.Key + " " + string(h.OldValue) + " " + string(h.NewValue) + " " + h.Action}, got...)
		}
	}
	const m = `"********"`
	same(t, "history", []string{
		"z  " + m + " secret-set", "b  " + m + " secret-set", "z " + m + " " + m + " secret-set",
		"b " + m + " null secret-delete", "z " + m + " null secret-delete",
	}, got)
	if rec := records(t, s)["a"]; len(rec.Secrets) != 0 || !rec.Deleted {
		t.Errorf("a tombstone with secrets: %+v", rec)
	}
	_, recs = d.ok(d.edit(command.ActionPut, put("a", 4, `{}`)))
	if len(recs[0].Secrets) != 0 {
		t.Error("a service that was deleted has its secrets again")
	}
}

// What a rebuild brings from another epoch keeps its times; a new epoch of the
// same store is no change of a value.
func TestSecretsOfARebuild(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	old := "2025-01-02T03:04:05+00:00"
	sec := setSecret("k", 1, "m1")
	sec.CreatedAt, sec.UpdatedAt = old, old
	_, recs := d.ok(secretEdit(d, command.ActionRebuild, put("a", 0, `{}`), sec))
	if got := recs[0].Secrets[0]; got.CreatedAt != old || got.UpdatedAt != old {
		t.Errorf("%+v", got)
	}
	d.ok(secretEdit(d, command.ActionRebuild, put("a", 1, `{}`), sec))
	if rows := history(t, s, conf.HistoryFilter{Key: "k"}); len(rows) != 1 {
		t.Errorf("history: %+v", rows)
	}
}

func TestSecretsNeedTheirService(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	before := s.Digest()
	for name, e := range map[string]*command.Edit{
		"no update":      secretEdit(d, command.ActionSecretSet, put("b", 0, `{}`), setSecret("k", 1, "m")),
		"with tombstone": secretEdit(d, command.ActionDelete, tombstone("a", 0), setSecret("k", 1, "m")),
	} {
		res, _ := d.apply(e)
		if res[0].Err == nil || res[0].Err.Code != conf.CodeInvalid {
			t.Errorf("%s: %+v", name, res[0])
		}
	}
	if s.Digest() != before {
		t.Error("a rejected edit changed the store")
	}
}

// A secret travels in snapshots, and a changed byte of it is noticed.
func TestSecretsAreCovered(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	d.ok(secretEdit(d, command.ActionPut, put("a", 0, `{}`), setSecret("k", 1, "m")))
	if !strings.Contains(string(streamOf(t, s)), sealedText(1)) {
		t.Error("a snapshot does not hold the secret")
	}
	if err := s.w.Exec(t.Context(), "UPDATE encrypted_secrets SET encrypted_value = ?", sealedText(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Queries.Record(t.Context(), "a"); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("a changed secret was read: %v", err)
	}
	if err := s.Verify(t.Context()); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("a changed secret was verified: %v", err)
	}
}
