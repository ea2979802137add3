package localapi

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestBodyIsTheSeedsReadResponse(t *testing.T) {
	rec := record("stt-worker", 7, sttConfig)
	doc := (*Renderer)(nil).Render(rec)
	var got conf.ReadResponse
	if err := conf.DecodeStrict(doc.plain.body, 1<<20, &got); err != nil {
		t.Fatal(err)
	}
	want := conf.ReadResponse{Service: "stt-worker", Config: json.RawMessage(sttConfig), Metadata: rec.Metadata()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestETagFollowsWhatADocumentSays(t *testing.T) {
	r := &Renderer{}
	base := r.Render(record("a", 3, `{"x":1}`)).plain.tag
	again := record("a", 3, `{"x":1}`)
	again.IssuedAt, again.Signature = "2026-01-02T03:08:05+00:00", "bmV3"
	if got := r.Render(again).plain.tag; got != base {
		t.Errorf("a new signature changed the ETag: %s, %s", base, got)
	}
	epoch := record("a", 3, `{"x":1}`)
	epoch.Epoch = "another"
	for name, rec := range map[string]*conf.Record{
		"version": record("a", 4, `{"x":1}`), "value": record("a", 3, `{"x":2}`), "epoch": epoch,
	} {
		if r.Render(rec).plain.tag == base {
			t.Errorf("another %s left the ETag", name)
		}
	}
	r.Secrets = func(string, *conf.Record) map[string]any { return map[string]any{"s": "1"} }
	one := r.Render(record("a", 3, `{"x":1}`)).full.tag
	r.Secrets = func(string, *conf.Record) map[string]any { return map[string]any{"s": "2"} }
	two := r.Render(record("a", 3, `{"x":1}`)).full.tag
	if one == base || one == two {
		t.Errorf("secrets do not show in the ETag: %s, %s, %s", base, one, two)
	}
}

// The ETag and the metadata tell what the environment decides, also when it agrees with
// what is stored; the secrets are added to it.
func TestDocumentWithAnOverlay(t *testing.T) {
	rec := record("a", 3, `{"x":1,"y":1}`)
	without := (&Renderer{}).Render(rec)
	same := (&Renderer{Overlay: func(*conf.Record) Overlay { return Overlay{Config: rec.Config, Keys: []string{"x"}} }}).Render(rec)
	if same.plain.tag == without.plain.tag {
		t.Error("the ETag does not know that the environment decides")
	}
	r := &Renderer{
		Overlay: func(*conf.Record) Overlay {
			return Overlay{Config: []byte(`{"x":2,"y":1}`), Keys: []string{"x"}, SecretKeys: []string{"s"}}
		},
		Secrets: func(string, *conf.Record) map[string]any { return map[string]any{"s": "secret"} },
	}
	d := r.Render(rec)
	for c, want := range map[*content]conf.ReadResponse{
		d.plain: {Config: json.RawMessage(`{"x":2,"y":1}`), Metadata: conf.Metadata{EnvKeys: []string{"x"}}},
		d.full:  {Config: json.RawMessage(`{"s":"secret","x":2,"y":1}`), Metadata: conf.Metadata{EnvKeys: []string{"s", "x"}}},
	} {
		var got conf.ReadResponse
		if err := conf.DecodeStrict(c.body, 1<<20, &got); err != nil {
			t.Fatal(err)
		}
		if string(got.Config) != string(want.Config) || !slices.Equal(got.Metadata.EnvKeys, want.Metadata.EnvKeys) || got.Metadata.Checksum != rec.Checksum {
			t.Errorf("%s", c.body)
		}
		if v := c.derived.get().value("x"); string(v.raw.body) != "2" || !strings.Contains(string(c.derived.get().env.body), "X=2\n") {
			t.Errorf("the key or the environment file has the stored value")
		}
	}
}

func TestSecretsGoWhereTheSchemaHasThem(t *testing.T) {
	rec := record("a", 1, `{"db":{"host":"h"},"n":1e21,"text":"<&>"}`)
	r := &Renderer{Secrets: func(service string, got *conf.Record) map[string]any {
		if service != "a" || got != rec {
			t.Errorf("called for %s, %v", service, got)
		}
		return map[string]any{
			"api.key": "k", "db": map[string]any{"password": "p"},
			"new": map[string]any{"deep": map[string]any{"one": json.Number("5")}}, "plain": true,
		}
	}}
	doc := r.Render(rec)
	const want = `{"api.key":"k","db":{"host":"h","password":"p"},"n":1e21,"new":{"deep":{"one":5}},"plain":true,"text":"<&>"}`
	if got := string(doc.full.derived.config); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	if !strings.Contains(string(doc.full.body), want) || strings.Contains(string(doc.plain.body), "password") {
		t.Fatalf("full %s\nplain %s", doc.full.body, doc.plain.body)
	}
	plain, full := doc.plain.derived.get(), doc.full.derived.get()
	for key, secret := range map[string]bool{"db.host": false, "text": false, "db.password": true, "db": true, "api.key": true, "new.deep": true} {
		if v := full.values[key]; v == nil || v.json.secret != secret || v.raw.secret != secret {
			t.Errorf("%s: secret is %v, want %v", key, v, secret)
		}
	}
	if plain.values["db"].json.secret || plain.values["db.password"] != nil || !full.env.secret || plain.env.secret {
		t.Error("the plain side knows of secrets")
	}
}

func TestEveryKeyAgreesWithLookup(t *testing.T) {
	const config = `{"a":{"b":{"c":1},"b.c":2},"a.b":{"c":3,"d":4},"a.b.c":5,"e":[{"f":1}],"g":{}}`
	doc := (&Renderer{}).Render(record("a", 1, config))
	parsed, err := conf.ParseObject([]byte(config), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	d := doc.plain.derived.get()
	for _, key := range []string{"a", "a.b", "a.b.c", "a.b.d", "e", "g"} {
		want, _ := conf.Lookup(parsed, key)
		if v := d.values[key]; v == nil || string(v.json.body) != string(encode(want)) {
			t.Errorf("%s: %v, want %s", key, v, encode(want))
		}
	}
	if len(d.values) != 6 {
		t.Errorf("keys %q", d.names)
	}
}

func TestLongNamesAreNotKept(t *testing.T) {
	name := strings.Repeat("k", 200)
	doc := (&Renderer{}).Render(record("a", 1, `{"`+name+`":{"`+name+`":1,"x":2}}`))
	d := doc.plain.derived.get()
	if len(d.values) != 2 || d.values[name+".x"] == nil {
		t.Fatalf("keys %q", d.names)
	}
}

func TestARecordThatCannotBeReadIsAnErrorAndNotAPanic(t *testing.T) {
	m := newMemory()
	m.render.Secrets = func(string, *conf.Record) map[string]any { return map[string]any{"s": "1"} }
	m.set(record("stt-worker", 1, `{"x":`))
	s := newServer(t, m, withToken)
	wantFailure(t, get(t, s, "/v1/config/stt-worker/x"), 503, conf.CodeCorrupt)
	wantFailure(t, get(t, s, "/v1/env/stt-worker"), 503, conf.CodeCorrupt)
	// Never the document without its secrets for a caller that has a right to them.
	wantFailure(t, get(t, s, "/v1/config/stt-worker", "X-Holdfast-Token: right-token"), 503, conf.CodeCorrupt)
}
