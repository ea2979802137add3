package edit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func with(schema string, d conf.Draft) conf.Draft {
	d.Schema = json.RawMessage(schema)
	return d
}

// What a service that has values could not be given before without deleting it.
func TestSchemaAndValuesInOneEdit(t *testing.T) {
	for name, c := range map[string]struct{ schema, doc, config string }{
		"a new required field": {
			strings.Replace(demoSchema, `"type":"object",`, `"type":"object","required":["region"],`, 1),
			`{"region":"eu","threshold":0.9}`, `{"limits":{"rate":10},"model":"base","region":"eu","threshold":0.9}`,
		},
		"a changed type": {
			strings.Replace(demoSchema, `"type":"number","minimum":0,"maximum":1,"default":0.5`, `"type":"string"`, 1),
			`{"threshold":"high"}`, `{"limits":{"rate":10},"model":"base","threshold":"high"}`,
		},
		"a tighter bound": {
			strings.Replace(demoSchema, `"maximum":1,`, `"maximum":0.6,`, 1),
			`{"threshold":0.6}`, `{"limits":{"rate":10},"model":"base","threshold":0.6}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.schema = strings.Replace(c.schema, `"properties":{`, `"properties":{"region":{"type":"string"},`, 1)
			f := setup(t, "demo")
			if _, err := f.Do(t.Context(), alice, draft(conf.OpPatch, `{"threshold":0.9}`)); err != nil {
				t.Fatal(err)
			}
			_, err := f.PutSchemas(t.Context(), alice, map[string][]byte{"demo": []byte(c.schema)}, "", "")
			if !errors.Is(err, conf.ErrInvalid) || !strings.Contains(conf.HintOf(err), "--with") {
				t.Fatalf("the schema alone: %v, hint %q", err, conf.HintOf(err))
			}
			before, n := *f.c.Record("demo"), f.c.count()

			dry := with(c.schema, draft(conf.OpPut, c.doc, 2))
			dry.DryRun = true
			if out, err := f.Do(t.Context(), bob, dry); err != nil || out.Version != 3 || string(out.Config) != c.config {
				t.Fatalf("dry run: %+v, %v", out, err)
			}
			if _, err := f.Do(t.Context(), alice, with(c.schema, draft(conf.OpPut, `{"nope":1}`, 2))); !errors.Is(err, conf.ErrInvalid) {
				t.Fatalf("values that the new schema rejects: %v", err)
			}
			if r := f.c.Record("demo"); f.c.count() != n || r.Version != before.Version || string(r.Schema) != string(before.Schema) {
				t.Fatal("a dry run or a rejected change left something")
			}
			out, err := f.Do(t.Context(), alice, with(c.schema, draft(conf.OpPut, c.doc, 2)))
			if err != nil || out.Version != 3 || string(out.Config) != c.config {
				t.Fatalf("%+v, %v", out, err)
			}
			e := f.c.edits[len(f.c.edits)-1]
			if f.c.count() != n+1 || len(e.Updates) != 1 || len(e.Schemas) != 1 || len(e.Audit) != 1 || e.Action != "put" {
				t.Fatalf("not one edit with both: %+v", e)
			}
			if !strings.Contains(e.Audit[0].Reason, "schema") {
				t.Errorf("the access log says only %q", e.Audit[0].Reason)
			}
			// A repeated draft brings the schema that is stored already.
			if _, err := f.Do(t.Context(), alice, with(c.schema, draft(conf.OpPut, c.doc, 3))); err != nil {
				t.Fatal(err)
			}
			if e := f.c.edits[len(f.c.edits)-1]; len(e.Schemas) != 0 {
				t.Fatal("the same schema is stored again")
			}
		})
	}
}

func TestSchemaAndValuesOfNewAndDeletedServices(t *testing.T) {
	f := setup(t, "demo")
	needy := `{"type":"object","properties":{"url":{"type":"string"}},"required":["url"]}`
	d := with(needy, conf.Draft{Service: "needy", Op: conf.OpPut, Document: []byte(`{"url":"http://x"}`), Expect: new(uint64)})
	if out, err := f.Do(t.Context(), alice, d); err != nil || out.Version != 1 {
		t.Fatalf("a new service: %+v, %v", out, err)
	}
	if _, err := f.Do(t.Context(), alice, d); !errors.Is(err, conf.ErrConflict) {
		t.Fatalf("again, as if it were new: %v", err)
	}
	if _, err := f.Do(t.Context(), alice, draft(conf.OpDelete, "")); err != nil {
		t.Fatal(err)
	}
	if out, err := f.Do(t.Context(), alice, with(needy, draft(conf.OpPut, `{"url":"http://y"}`, 2))); err != nil || out.Version != 3 {
		t.Fatalf("a deleted service: %+v, %v", out, err)
	}
	if _, err := f.Do(t.Context(), alice, with(needy, draft(conf.OpPatch, `{"url":"http://z"}`))); conf.CodeOf(err) != conf.CodeUsage {
		t.Fatalf("a patch with a schema: %v", err)
	}
	if _, err := f.Do(t.Context(), bob, d); conf.CodeOf(err) != conf.CodeDenied {
		t.Fatalf("a reader: %v", err)
	}
}

// Nothing that is secret is lost, or stays in clear, when the schema and the values
// change together.
func TestSchemaAndValuesWithSecrets(t *testing.T) {
	f := setup(t, "demo")
	if _, err := f.Do(t.Context(), alice, draft(conf.OpPatch, `{"password":"old-password","model":"small"}`)); err != nil {
		t.Fatal(err)
	}
	// The model becomes a secret; the password needs more characters than it has.
	next := strings.Replace(demoSchema, `"enum":["base","small"],"default":"base"`, `"x-secret":true`, 1)
	next = strings.Replace(next, `"x-secret-source":"database"}`, `"x-secret-source":"database","minLength":20}`, 1)
	if _, err := f.Do(t.Context(), alice, with(next, draft(conf.OpPut, `{}`, 2))); !errors.Is(err, conf.ErrInvalid) {
		t.Fatalf("a stored secret that is invalid under the new schema: %v", err)
	}
	if _, err := f.Do(t.Context(), alice, with(next, draft(conf.OpPut, `{"password":"a-new-and-longer-password"}`, 2))); err != nil {
		t.Fatal(err)
	}
	r := f.c.Record("demo")
	if len(r.Secrets) != 2 || !hasSecret(r, "model") || !hasSecret(r, "password") || strings.Contains(string(r.Values)+string(r.Config), "small") {
		t.Fatalf("secrets %v, values %s", r.Secrets, r.Values)
	}
	got, err := f.Reveal(t.Context(), alice, "demo", "model", "test")
	if err != nil || string(got) != `"small"` {
		t.Fatalf("the value that became a secret: %s, %v", got, err)
	}
	// null removes a secret that is invalid under the schema that comes with it.
	third := strings.Replace(next, `"minLength":20`, `"minLength":40`, 1)
	if _, err := f.Do(t.Context(), alice, with(third, draft(conf.OpPut, `{"password":null}`, 3))); err != nil {
		t.Fatal(err)
	}
	if r := f.c.Record("demo"); hasSecret(r, "password") {
		t.Fatal("the secret is still set")
	}
}

func TestStaleProfilesAreReported(t *testing.T) {
	f := setup(t, "demo", "other")
	for name, values := range map[string]string{"loud": `{"threshold":0.9}`, "quiet": `{"threshold":0.1}`} {
		p := conf.Profile{Name: name, Services: map[string]json.RawMessage{"demo": []byte(values), "other": []byte(`{}`)}}
		if _, err := f.SaveProfile(t.Context(), alice, p, nil, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	tight := strings.Replace(demoSchema, `"maximum":1,`, `"maximum":0.6,`, 1)
	reports := func(out conf.Outcome, err error) {
		t.Helper()
		if err != nil || len(out.Stale) != 1 || out.Stale[0].Profile != "loud" || out.Stale[0].Service != "demo" || !strings.Contains(out.Stale[0].Error, "threshold") {
			t.Fatalf("%+v, %v", out.Stale, err)
		}
	}
	only := conf.Draft{Service: "demo", Op: conf.OpSchema, Schema: []byte(tight), DryRun: true}
	reports(f.Do(t.Context(), bob, only))
	dry := with(tight, draft(conf.OpPut, `{}`, 1))
	dry.DryRun = true
	reports(f.Do(t.Context(), bob, dry))
	if strings.Contains(string(f.c.Record("demo").Schema), "0.6") {
		t.Fatal("a dry run stored the schema")
	}
	reports(f.Do(t.Context(), alice, with(tight, draft(conf.OpPut, `{}`, 1))))

	_, err := f.ActivateProfile(t.Context(), alice, "loud", "", "", "")
	if !errors.Is(err, conf.ErrInvalid) || !strings.Contains(err.Error(), "loud is stale") {
		t.Fatalf("activating it: %v", err)
	}
	in := conf.Profile{Name: "loud-2", Services: map[string]json.RawMessage{
		"demo": []byte(`{"password":"s3cr3t","threshold":0.9}`), "other": []byte(`{}`), "unknown": []byte(`{"a":1}`),
	}}
	p, stale, err := f.ImportProfile(t.Context(), alice, in, "", "")
	if err != nil || len(stale) != 2 || stale[0].Service != "demo" || stale[1].Service != "unknown" {
		t.Fatalf("%+v, %v", stale, err)
	}
	if string(p.Services["demo"]) != `{"threshold":0.9}` || len(p.Services) != 2 || len(f.c.profiles["loud-2"].Services) != 2 {
		t.Fatalf("%+v", p)
	}
}
