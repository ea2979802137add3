package edit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// testSealer is the real thing with one master key.
type testSealer struct{}

var testMaster = bytes.Repeat([]byte("01234567"), 4)

func (testSealer) Seal(epoch, service, key string, plain []byte) (string, string, error) {
	derived, err := seal.Derive(testMaster, service, "m1")
	if err != nil {
		return "", "", err
	}
	text, err := seal.SealSecret(derived, seal.SecretID{Epoch: epoch, Service: service, Key: key, KeyID: "m1"}, plain)
	return text, "m1", err
}

func (testSealer) Open(epoch, service string, s conf.SealedSecret) ([]byte, error) {
	derived, err := seal.Derive(testMaster, service, s.KeyID)
	if err != nil {
		return nil, err
	}
	return seal.OpenSecret(derived, seal.SecretID{Epoch: epoch, Service: service, Key: s.Key, KeyID: s.KeyID}, s.Value)
}

// note keeps what went into the log.
func (c *cluster) note(raw []byte, cmd command.Command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, raw...)
	if a, ok := cmd.(*command.Audit); ok {
		c.audits = append(c.audits, a.Rows...)
	}
}

// secrets are those of a service after e.
func (c *cluster) secrets(e *command.Edit, u command.Update) []conf.SealedSecret {
	if u.Deleted {
		return nil
	}
	var out []conf.SealedSecret
	if old := c.recs[u.Service]; old != nil {
		out = slices.Clone(old.Secrets)
	}
	for _, s := range e.Secrets {
		if s.Service != u.Service {
			continue
		}
		out = slices.DeleteFunc(out, func(o conf.SealedSecret) bool { return o.Key == s.Key })
		if !s.Deleted {
			out = append(out, conf.SealedSecret{Key: s.Key, Value: s.EncryptedValue, KeyID: s.KeyID, CreatedAt: e.At, UpdatedAt: e.At})
		}
	}
	return out
}

// opened shows the secrets of a service in clear.
func (f *fixture) opened(t *testing.T, service string) map[string]string {
	t.Helper()
	out := map[string]string{}
	r := f.c.Record(service)
	for _, s := range r.Secrets {
		plain, err := testSealer{}.Open(r.Epoch, service, s)
		if err != nil {
			t.Fatal(err)
		}
		out[s.Key] = string(plain)
	}
	return out
}

func (f *fixture) do(t *testing.T, d conf.Draft) conf.Outcome {
	t.Helper()
	out, err := f.Do(t.Context(), alice, d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func secretDraft(op conf.Op, key, value string) conf.Draft {
	return conf.Draft{Service: "demo", Op: op, Key: key, Document: json.RawMessage(value), Reason: "because"}
}

func TestSecretsAreSealedOnTheWay(t *testing.T) {
	f := setup(t, "demo")
	before := f.c.Record("demo")
	out := f.do(t, secretDraft(conf.OpSecretSet, "password", `"hunter2"`))
	r := f.c.Record("demo")
	if out.Version != before.Version+1 || string(r.Config) != string(before.Config) || r.Signature == before.Signature || string(r.Values) != string(before.Values) {
		t.Fatalf("out %+v, record %+v", out, r)
	}
	if err := seal.Verify(f.pub, r.Update()); err != nil {
		t.Error(err)
	}
	if got := f.opened(t, "demo")["password"]; got != `"hunter2"` {
		t.Errorf("sealed %s", got)
	}
	e := f.c.edits[len(f.c.edits)-1]
	if e.Action != command.ActionSecretSet || e.Audit[0].Key != "password" || e.Audit[0].Action != "write" {
		t.Errorf("%s, %+v", e.Action, e.Audit)
	}
	// In documents: sealed, unchanged where its mask stands or nothing, removed by null.
	f.do(t, draft(conf.OpPatch, `{"password":"hunter3"}`))
	f.do(t, draft(conf.OpPut, `{"threshold":0.25}`))
	f.do(t, draft(conf.OpPut, `{"threshold":0.5,"password":"********"}`))
	if out := f.do(t, draft(conf.OpPatch, `{"password":"********","api_key":"********"}`)); out.Changed {
		t.Error("a mask is a change")
	}
	if got := f.opened(t, "demo")["password"]; got != `"hunter3"` {
		t.Errorf("sealed %s", got)
	}
	f.do(t, draft(conf.OpPut, `{"model":"small","password":"hunter4"}`))
	if got := f.opened(t, "demo")["password"]; got != `"hunter4"` {
		t.Errorf("sealed %s", got)
	}
	f.do(t, conf.Draft{Service: "demo", Op: conf.OpRestore, Restore: 2})
	if got := f.opened(t, "demo")["password"]; got != `"hunter4"` {
		t.Errorf("the restore of an old version changed a secret to %s", got)
	}
	f.do(t, draft(conf.OpPatch, `{"password":null}`))
	if got := f.opened(t, "demo"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if _, err := f.Do(t.Context(), alice, secretDraft(conf.OpSecretDelete, "password", "")); conf.CodeOf(err) != conf.CodeNotFound {
		t.Errorf("deleted twice: %v", err)
	}
	f.do(t, secretDraft(conf.OpSecretSet, "password", `"hunter5"`))
	f.do(t, secretDraft(conf.OpSecretDelete, "password", ""))
	if bytes.Contains(f.c.log, []byte("hunter")) {
		t.Error("a value in clear went into the log")
	}
	if !bytes.Contains(f.c.log, []byte(`"encrypted_value":"`)) {
		t.Error("nothing sealed went into the log: the test proves nothing")
	}
}

func TestRejectedSecrets(t *testing.T) {
	f := setup(t, "demo")
	for name, c := range map[string]struct {
		who  conf.Principal
		d    conf.Draft
		code conf.Code
	}{
		"reader":      {bob, secretDraft(conf.OpSecretSet, "password", `"s3cr3t"`), conf.CodeDenied},
		"wrong type":  {alice, secretDraft(conf.OpSecretSet, "password", `["s3cr3t"]`), conf.CodeInvalid},
		"env":         {alice, secretDraft(conf.OpSecretSet, "api_key", `"s3cr3t"`), conf.CodeImmutable},
		"no secret":   {alice, secretDraft(conf.OpSecretSet, "model", `"s3cr3t"`), conf.CodeInvalid},
		"unknown":     {alice, secretDraft(conf.OpSecretSet, "nope", `"s3cr3t"`), conf.CodeNotFound},
		"bad key":     {alice, secretDraft(conf.OpSecretSet, "../x", `"s3cr3t"`), conf.CodeInvalid},
		"not JSON":    {alice, secretDraft(conf.OpSecretSet, "password", `s3cr3t`), conf.CodeMalformed},
		"too large":   {alice, secretDraft(conf.OpSecretSet, "password", `"`+strings.Repeat("s3cr3t", 20000)+`"`), conf.CodeTooLarge},
		"old version": {alice, conf.Draft{Service: "demo", Op: conf.OpSecretSet, Key: "password", Document: []byte(`"s3cr3t"`), Expect: new(uint64)}, conf.CodeConflict},
		"not set":     {alice, secretDraft(conf.OpSecretDelete, "password", ""), conf.CodeNotFound},
		"no service":  {alice, conf.Draft{Service: "other", Op: conf.OpSecretSet, Key: "password", Document: []byte(`"s3cr3t"`)}, conf.CodeNotFound},
	} {
		n := f.c.count()
		_, err := f.Do(t.Context(), c.who, c.d)
		if conf.CodeOf(err) != c.code || strings.Contains(err.Error(), "s3cr3t") || f.c.count() != n {
			t.Errorf("%s: %v (%s), want %s", name, err, conf.CodeOf(err), c.code)
		}
	}
	d := secretDraft(conf.OpSecretSet, "password", `"s3cr3t"`)
	d.DryRun = true
	n := f.c.count()
	if out, err := f.Do(t.Context(), bob, d); err != nil || out.Version != 2 || f.c.count() != n {
		t.Errorf("dry run: %+v, %v", out, err)
	}
	if _, err := f.SaveProfile(t.Context(), alice, conf.Profile{Name: "night", Services: map[string]json.RawMessage{"demo": json.RawMessage(`{"password":"s3cr3t"}`)}}, nil, "", ""); conf.CodeOf(err) != conf.CodeInvalid || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a secret in a profile: %v", err)
	}
	f.do(t, secretDraft(conf.OpSecretSet, "password", `"s3cr3t"`))
	p, err := f.SaveProfile(t.Context(), alice, conf.Profile{Name: "night"}, nil, "", "")
	if err != nil || strings.Contains(string(p.Services["demo"]), "password") {
		t.Errorf("a profile holds a secret: %s, %v", p.Services["demo"], err)
	}
}

func TestReveal(t *testing.T) {
	f := setup(t, "demo")
	f.do(t, secretDraft(conf.OpSecretSet, "password", `"hunter2"`))
	got, err := f.Reveal(t.Context(), alice, "demo", "password", "an outage")
	if err != nil || string(got) != `"hunter2"` {
		t.Fatalf("%s, %v", got, err)
	}
	row := f.c.audits[0]
	if row.Action != "reveal_secret" || row.Key != "password" || row.Service != "demo" || row.UserID != "alice" || !row.Success || row.Reason != "an outage" {
		t.Errorf("%+v", row)
	}
	for name, c := range map[string]struct {
		who          conf.Principal
		key, because string
		code         conf.Code
	}{
		"reader":    {bob, "password", "r", conf.CodeDenied},
		"no reason": {alice, "password", " ", conf.CodeInvalid},
		"env":       {alice, "api_key", "r", conf.CodeUnsupported},
		"plain":     {alice, "model", "r", conf.CodeInvalid},
		"unknown":   {alice, "nope", "r", conf.CodeNotFound},
	} {
		if got, err := f.Reveal(t.Context(), c.who, "demo", c.key, c.because); conf.CodeOf(err) != c.code || got != nil {
			t.Errorf("%s: %s, %v, want %s", name, got, err, c.code)
		}
	}
	// Nothing leaves before the row is in the log.
	f.c.lose = conf.Errorf(conf.CodeNoQuorum, "no quorum")
	if got, err := f.Reveal(t.Context(), alice, "demo", "password", "an outage"); conf.CodeOf(err) != conf.CodeNoQuorum || got != nil {
		t.Errorf("revealed without the log: %s, %v", got, err)
	}
	f.c.lose = nil
	f.ready = conf.Errorf(conf.CodeReadOnly, "read only")
	if got, err := f.Reveal(t.Context(), alice, "demo", "password", "an outage"); conf.CodeOf(err) != conf.CodeReadOnly || got != nil {
		t.Errorf("revealed without a replica: %s, %v", got, err)
	}
}

func (f *fixture) schema(t *testing.T, password string) (conf.Outcome, error) {
	t.Helper()
	outs, err := f.PutSchemas(t.Context(), alice, map[string][]byte{"demo": []byte(`{"type":"object","properties":{"model":{"type":"string"}` + password + `}}`)}, "", "")
	if err != nil {
		return conf.Outcome{}, err
	}
	return outs[0], nil
}

// A schema never destroys a secret, and never brings one to light.
func TestSchemasAndSecrets(t *testing.T) {
	f := setup(t, "demo")
	f.do(t, secretDraft(conf.OpSecretSet, "password", `"hunter2"`))
	_, err := f.schema(t, `,"password":{"type":"string","x-secret":true,"minLength":20}`)
	if conf.CodeOf(err) != conf.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a schema that the secret does not fit: %v", err)
	}
	for _, s := range []string{``, `,"password":{"type":"string"}`, `,"password":{"type":"string","x-secret":true,"x-secret-source":"env"}`, `,"password":{"type":"string","x-secret":true}`} {
		if _, err := f.schema(t, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if got := f.opened(t, "demo")["password"]; got != `"hunter2"` {
			t.Errorf("under %s the secret is %s", s, got)
		}
		if r := f.c.Record("demo"); bytes.Contains(r.Config, []byte("hunter2")) || bytes.Contains(r.Values, []byte("hunter2")) {
			t.Errorf("under %s the secret is in clear", s)
		}
	}
	// One that no field uses can still be removed.
	if _, err := f.schema(t, ``); err != nil {
		t.Fatal(err)
	}
	f.do(t, secretDraft(conf.OpSecretDelete, "password", ""))

	// What was stored in clear moves to where secrets are.
	if _, err := f.schema(t, `,"password":{"type":"string"}`); err != nil {
		t.Fatal(err)
	}
	f.do(t, draft(conf.OpPatch, `{"password":"was in clear"}`))
	out, err := f.schema(t, `,"password":{"type":"string","x-secret":true}`)
	if err != nil {
		t.Fatal(err)
	}
	r := f.c.Record("demo")
	if out.Version != r.Version || bytes.Contains(r.Values, []byte("in clear")) || bytes.Contains(r.Config, []byte("in clear")) || f.opened(t, "demo")["password"] != `"was in clear"` {
		t.Errorf("%+v, %v", r, f.opened(t, "demo"))
	}
	f.do(t, conf.Draft{Service: "demo", Op: conf.OpRestore, Restore: r.Version - 1})
	if r := f.c.Record("demo"); bytes.Contains(r.Values, []byte("in clear")) || bytes.Contains(r.Config, []byte("in clear")) {
		t.Error("a restore brought the value back in clear")
	}
}

// A rebuild takes the secrets along, sealed for the new epoch.
func TestRefillResealsSecrets(t *testing.T) {
	f := setup(t, "demo")
	f.do(t, secretDraft(conf.OpSecretSet, "password", `"hunter2"`))
	old := *f.c.Record("demo")
	old.Epoch = "an epoch before"
	sealed, _, err := testSealer{}.Seal(old.Epoch, "demo", "password", []byte(`"hunter2"`))
	if err != nil {
		t.Fatal(err)
	}
	old.Secrets = []conf.SealedSecret{
		{Key: "password", Value: sealed, KeyID: "m1", CreatedAt: "2025-01-02T03:04:05+00:00", UpdatedAt: "2025-01-02T03:04:05+00:00"},
		{Key: "lost", Value: sealed, KeyID: "m1", CreatedAt: "2025-01-02T03:04:05+00:00", UpdatedAt: "2025-01-02T03:04:05+00:00"},
	}
	fresh := setup(t)
	dropped, lost, err := fresh.ImportRecords(t.Context(), alice, []*conf.Record{&old}, "test")
	if err != nil || len(dropped) != 0 || !slices.Equal(lost, []string{"demo/lost"}) {
		t.Fatalf("dropped %v, lost %v, %v", dropped, lost, err)
	}
	if got := fresh.opened(t, "demo"); len(got) != 1 || got["password"] != `"hunter2"` {
		t.Errorf("%v", got)
	}
	e := fresh.c.edits[len(fresh.c.edits)-1]
	if e.Secrets[0].EncryptedValue == sealed || e.Secrets[0].CreatedAt == "" {
		t.Errorf("%+v", e.Secrets[0])
	}
}
