package edit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestSchemaChange(t *testing.T) {
	f := setup(t, "demo")
	put := func(s string) (conf.Outcome, error) {
		outs, err := f.PutSchemas(t.Context(), alice, map[string][]byte{"demo": []byte(s)}, "", "")
		if err != nil {
			return conf.Outcome{}, err
		}
		return outs[0], nil
	}
	if out, err := put(demoSchema); err != nil || out.Changed {
		t.Fatalf("the same schema: %+v, %v", out, err)
	}
	if _, err := f.Do(t.Context(), alice, draft(conf.OpPatch, `{"threshold":0.9}`)); err != nil {
		t.Fatal(err)
	}
	// A new default changes the effective document: a new signed version.
	out, err := put(strings.Replace(demoSchema, `"default":"base"`, `"default":"small"`, 1))
	if err != nil || out.Version != 3 || string(out.Config) != `{"limits":{"rate":10},"model":"small","threshold":0.9}` {
		t.Fatalf("%+v %v", out, err)
	}
	// Stored values would be invalid: nothing changes.
	if _, err := put(strings.Replace(demoSchema, `"maximum":1,"default":0.5`, `"maximum":0.8,"default":0.5`, 1)); !errors.Is(err, conf.ErrInvalid) {
		t.Fatalf("narrowing: %v", err)
	}
	if r := f.c.Record("demo"); r.Version != 3 || strings.Contains(string(r.Schema), "0.8") {
		t.Fatal("the rejected schema was stored")
	}
	// A schema with a required field and no default: known, without a document.
	req := `{"type":"object","properties":{"url":{"type":"string"}},"required":["url"]}`
	outs, err := f.PutSchemas(t.Context(), alice, map[string][]byte{"needy": []byte(req)}, "", "")
	if err != nil || outs[0].Version != 0 || f.c.Record("needy").Exists() {
		t.Fatalf("%+v %v", outs, err)
	}
	d := conf.Draft{Service: "needy", Op: conf.OpPut, Document: []byte(`{"url":"http://x"}`), Expect: new(uint64)}
	if out, err := f.Do(t.Context(), alice, d); err != nil || out.Version != 1 {
		t.Fatalf("%+v %v", out, err)
	}
}

func TestProfiles(t *testing.T) {
	f := setup(t, "demo", "other")
	ctx := t.Context()
	if _, err := f.SaveProfile(ctx, alice, conf.Profile{Name: "night", Services: map[string]json.RawMessage{"demo": []byte(`{"model":"small"}`), "other": []byte(`{"threshold":0.2}`)}}, nil, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SaveProfile(ctx, alice, conf.Profile{Name: "bad", Services: map[string]json.RawMessage{"demo": []byte(`{"model":"huge"}`)}}, nil, "", ""); !errors.Is(err, conf.ErrInvalid) {
		t.Fatalf("an invalid profile: %v", err)
	}
	if _, err := f.SaveProfile(ctx, alice, conf.Profile{Name: "day"}, []string{"demo"}, "", ""); err != nil {
		t.Fatal(err)
	}
	outs, err := f.ActivateProfile(ctx, alice, "night", "", "", "")
	if err != nil || len(outs) != 2 || f.c.Record("demo").Version != 2 || f.c.Record("other").Version != 2 {
		t.Fatalf("%+v %v", outs, err)
	}
	n := f.c.count()
	if _, err := f.ActivateProfile(ctx, alice, "night", "", "", ""); err != nil || f.c.count() != n {
		t.Fatalf("activating again wrote something: %v", err)
	}
	if _, err := f.ActivateProfile(ctx, alice, "day", "", "", ""); err != nil || f.c.Record("demo").Version != 3 || f.c.Record("other").Version != 2 {
		t.Fatalf("day: %v", err)
	}
	if err := f.DeleteProfile(ctx, alice, "night", "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ActivateProfile(ctx, alice, "night", "", "", ""); !errors.Is(err, conf.ErrNotFound) {
		t.Fatal(err)
	}
}
