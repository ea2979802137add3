package edit

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const demoSchema = `{"type":"object","additionalProperties":false,"properties":{
 "model":{"type":"string","enum":["base","small"],"default":"base"},
 "threshold":{"type":"number","minimum":0,"maximum":1,"default":0.5},
 "limits":{"type":"object","additionalProperties":false,"default":{},"properties":{"rate":{"type":"integer","minimum":1,"default":10}}},
 "api_key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"DEMO_KEY"},
 "password":{"type":"string","x-secret":true,"x-secret-source":"database"}}}`

var (
	alice = conf.Principal{Name: "alice", Role: conf.RoleWrite}
	bob   = conf.Principal{Name: "bob", Role: conf.RoleRead}
)

// cluster is a log and a store in memory: it applies what is proposed with the
// store's rules, so that the tests see what the editor proposed and what came of it.
type cluster struct {
	mu       sync.Mutex
	recs     map[string]*conf.Record
	versions map[string]map[uint64]json.RawMessage
	profiles map[string]conf.Profile
	results  map[string]command.Result
	edits    []*command.Edit
	reissues []*command.Reissue
	hold     map[string]chan struct{} // proposals of a service wait here
	entered  chan string
	refuse   uint64 // features that a voter lacks
	lose     error  // Propose applies and then answers this
	log      []byte
	audits   []conf.Access // of commands that are nothing but audit
}

func newCluster() *cluster {
	return &cluster{
		recs: map[string]*conf.Record{}, versions: map[string]map[uint64]json.RawMessage{}, profiles: map[string]conf.Profile{},
		results: map[string]command.Result{}, hold: map[string]chan struct{}{}, entered: make(chan string, 16),
	}
}

func (c *cluster) Propose(ctx context.Context, cmd command.Command) (command.Result, error) {
	raw, err := command.Encode(cmd)
	if err != nil {
		return command.Result{}, err
	} else if _, err := command.Decode(raw); err != nil {
		return command.Result{}, err
	}
	if c.refuse != 0 && command.RequiredFeatures(cmd)&c.refuse == c.refuse {
		return command.Result{}, conf.Errorf(conf.CodeUnsupported, "a voter cannot apply this")
	}
	c.note(raw, cmd)
	if r, ok := cmd.(*command.Reissue); ok {
		return c.reissue(r)
	}
	e, ok := cmd.(*command.Edit)
	if !ok {
		return command.Result{}, c.lose
	}
	for _, u := range e.Updates {
		if ch := c.hold[u.Service]; ch != nil {
			c.entered <- u.Service
			<-ch
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range e.Updates {
		cur := uint64(0)
		if r := c.recs[u.Service]; r != nil {
			cur = r.Version
		}
		if cur != u.Prev {
			return command.Result{Err: conflict(u.Service, u.Prev, cur)}, nil
		}
	}
	c.edits = append(c.edits, e)
	res := command.Result{Versions: map[string]uint64{}}
	for _, s := range e.Schemas {
		r := conf.Record{Service: s.Service}
		if old := c.recs[s.Service]; old != nil {
			r = *old
		}
		r.Schema = s.Schema
		c.recs[s.Service] = &r
	}
	for _, u := range e.Updates {
		c.recs[u.Service] = &conf.Record{
			Service: u.Service, Version: u.Version, Epoch: e.Epoch, Values: u.Values, Config: u.Config, Checksum: u.Checksum,
			IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: u.KeyID, UpdatedAt: e.At, UpdatedBy: e.By, Deleted: u.Deleted,
			Schema: c.recs[u.Service].Schema, Secrets: c.secrets(e, u), VersionSignature: u.VersionSignature,
		}
		if c.versions[u.Service] == nil {
			c.versions[u.Service] = map[uint64]json.RawMessage{}
		}
		c.versions[u.Service][u.Version] = u.Values
		res.Versions[u.Service] = u.Version
	}
	for _, p := range e.Profiles {
		c.profiles[p.Name] = conf.Profile{Name: p.Name, Description: p.Description, Services: p.Services}
	}
	for _, n := range e.ProfileDeletes {
		delete(c.profiles, n)
	}
	c.results[e.ID] = res
	return res, c.lose
}

func (c *cluster) reissue(r *command.Reissue) (command.Result, error) {
	if ch := c.hold["reissue"]; ch != nil {
		c.entered <- "reissue"
		<-ch
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reissues = append(c.reissues, r)
	for i, it := range r.Items {
		rec := *c.recs[it.Service]
		if rec.Version == it.Version && (rec.IssuedAt < r.Issued(i) || rec.IssuedAt == it.Replaces) {
			rec.IssuedAt, rec.Signature, rec.KeyID = r.Issued(i), it.Signature, r.KeyID
			rec.VersionSignature = cmp.Or(it.VersionSignature, rec.VersionSignature)
			c.recs[it.Service] = &rec
		}
	}
	return command.Result{}, c.lose
}

func (c *cluster) Record(s string) *conf.Record { c.mu.Lock(); defer c.mu.Unlock(); return c.recs[s] }
func (c *cluster) Epoch() string                { return "2d7a2a66-9f0c-4a0e-8d38-5f1c8a3c1f10" }
func (c *cluster) Services() []*conf.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*conf.Record
	for _, n := range conf.SortedKeys(c.recs) {
		out = append(out, c.recs[n])
	}
	return out
}

func (c *cluster) VersionValues(_ context.Context, s string, v uint64) (json.RawMessage, error) {
	if raw, ok := c.versions[s][v]; ok {
		return raw, nil
	}
	return nil, conf.Errorf(conf.CodeNotFound, "no version %d", v)
}

func (c *cluster) Profile(_ context.Context, n string) (conf.Profile, error) {
	if p, ok := c.profiles[n]; ok {
		return p, nil
	}
	return conf.Profile{}, conf.Errorf(conf.CodeNotFound, "no profile %q", n)
}

func (c *cluster) Profiles(context.Context) (out []conf.Profile, err error) {
	for _, n := range conf.SortedKeys(c.profiles) {
		out = append(out, c.profiles[n])
	}
	return out, nil
}

func (c *cluster) RequestResult(_ context.Context, id string) (command.Result, bool, error) {
	r, ok := c.results[id]
	return r, ok, nil
}

func (c *cluster) Rollouts(context.Context, string, int, int) (page conf.Page[conf.RolloutEnd], err error) {
	return page, nil
}

func (c *cluster) count() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.edits) }

type fixture struct {
	*Editor
	c     *cluster
	pub   ed25519.PublicKey
	ready error
	now   time.Time
	signs bool // versions
}

func setup(t *testing.T, services ...string) *fixture {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{c: newCluster(), pub: pub, now: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
	f.Editor = New(Options{
		Proposer: f.c, Records: f.c, Archive: f.c, Schemas: schema.NewCache(),
		Sealer: testSealer{}, Signer: func() *seal.Signer { return seal.NewSigner(priv) }, Ready: func() error { return f.ready },
		Now: func() time.Time { return f.now }, CanSignVersions: func() bool { return f.signs },
	})
	schemas := map[string][]byte{}
	for _, s := range services {
		schemas[s] = []byte(demoSchema)
	}
	if _, err := f.PutSchemas(t.Context(), alice, schemas, "", ""); err != nil {
		t.Fatal(err)
	}
	return f
}

func draft(op conf.Op, doc string, expect ...uint64) conf.Draft {
	d := conf.Draft{Service: "demo", Op: op, Document: json.RawMessage(doc)}
	if len(expect) > 0 {
		d.Expect = &expect[0]
	}
	return d
}

func TestPutMakesASignedVersion(t *testing.T) {
	f := setup(t, "demo")
	if got := f.c.Record("demo"); got.Version != 1 || string(got.Config) != `{"limits":{"rate":10},"model":"base","threshold":0.5}` {
		t.Fatalf("after the schema: version %d, %s", got.Version, got.Config)
	}
	out, err := f.Do(t.Context(), alice, draft(conf.OpPut, `{"threshold":0.6}`, 1))
	if err != nil {
		t.Fatal(err)
	}
	r := f.c.Record("demo")
	if out.Version != 2 || r.Version != 2 || string(r.Values) != `{"threshold":0.6}` ||
		string(r.Config) != `{"limits":{"rate":10},"model":"base","threshold":0.6}` {
		t.Fatalf("out %+v, record %+v", out, r)
	}
	if err := seal.Verify(f.pub, r.Update()); err != nil {
		t.Fatalf("signature: %v", err)
	}
	if r.IssuedAt != "2026-01-02T03:04:05.000007+00:00" { // a microsecond after version 1
		t.Fatalf("issued_at %q", r.IssuedAt)
	}
	e := f.c.edits[len(f.c.edits)-1]
	if len(e.Audit) != 1 || e.Audit[0].UserID != "alice" || e.Audit[0].Action != "write" || !e.Audit[0].Success {
		t.Fatalf("audit %+v", e.Audit)
	}
	// What PUT leaves out returns to its default.
	if _, err := f.Do(t.Context(), alice, draft(conf.OpPut, `{"model":"small"}`, 2)); err != nil {
		t.Fatal(err)
	}
	if got := string(f.c.Record("demo").Config); got != `{"limits":{"rate":10},"model":"small","threshold":0.5}` {
		t.Fatal(got)
	}
}

// The fixture's clock stands still, as one that is set back would look.
func TestIssuedAtGrowsWhenTheClockStands(t *testing.T) {
	f := setup(t, "demo")
	last := f.c.Record("demo").IssuedAt
	for range 3 {
		if _, err := f.Do(t.Context(), alice, draft(conf.OpPut, `{}`)); err != nil {
			t.Fatal(err)
		}
		if now := f.c.Record("demo").IssuedAt; now <= last {
			t.Fatalf("%s after %s", now, last)
		} else {
			last = now
		}
	}
}

func TestPatchDeleteRestore(t *testing.T) {
	f := setup(t, "demo")
	do := func(d conf.Draft) conf.Outcome {
		t.Helper()
		out, err := f.Do(t.Context(), alice, d)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	do(draft(conf.OpPatch, `{"limits":{"rate":7},"model":"small"}`))
	do(draft(conf.OpPatch, `{"model":null}`))
	if r := f.c.Record("demo"); r.Version != 3 || string(r.Values) != `{"limits":{"rate":7}}` {
		t.Fatalf("%d %s", r.Version, r.Values)
	}
	n := f.c.count()
	if out := do(draft(conf.OpPatch, `{"limits":{"rate":7}}`)); out.Changed || out.Version != 3 || f.c.count() != n {
		t.Fatalf("a patch that changes nothing made %+v", out)
	}
	if out := do(draft(conf.OpDelete, "", 3)); out.Version != 4 || !f.c.Record("demo").Deleted {
		t.Fatalf("%+v", out)
	}
	if _, err := f.Do(t.Context(), alice, draft(conf.OpDelete, "")); !errors.Is(err, conf.ErrNotFound) {
		t.Fatalf("second delete: %v", err)
	}
	d := draft(conf.OpRestore, "")
	d.Restore = 2
	if out := do(d); out.Version != 5 || string(f.c.Record("demo").Values) != `{"limits":{"rate":7},"model":"small"}` {
		t.Fatalf("%+v", out)
	}
	d.Restore = 99
	if _, err := f.Do(t.Context(), alice, d); !errors.Is(err, conf.ErrNotFound) {
		t.Fatalf("restore of nothing: %v", err)
	}
}

func TestRejectedDraftsChangeNothing(t *testing.T) {
	f := setup(t, "demo")
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for name, c := range map[string]struct {
		who  conf.Principal
		d    conf.Draft
		code conf.Code
		keys []string
	}{
		"reader":          {bob, draft(conf.OpPut, `{}`, 1), conf.CodeDenied, nil},
		"bad name":        {alice, conf.Draft{Service: "Demo!", Op: conf.OpPut, Document: []byte(`{}`)}, conf.CodeInvalid, nil},
		"no schema":       {alice, conf.Draft{Service: "other", Op: conf.OpPut, Document: []byte(`{}`)}, conf.CodeNotFound, nil},
		"old version":     {alice, draft(conf.OpPut, `{}`, 7), conf.CodeConflict, nil},
		"all field errs":  {alice, draft(conf.OpPut, `{"model":"huge","threshold":1.5,"limits":{"rate":0},"nope":1}`, 1), conf.CodeInvalid, []string{"model", "threshold", "limits.rate", "nope"}},
		"env secret":      {alice, draft(conf.OpPut, `{"api_key":"s3cr3t"}`, 1), conf.CodeImmutable, []string{"api_key"}},
		"database secret": {alice, draft(conf.OpPatch, `{"password":["s3cr3t"]}`), conf.CodeInvalid, []string{"password"}},
		"not an object":   {alice, draft(conf.OpPut, `[1]`, 1), conf.CodeMalformed, nil},
		"duplicate":       {alice, draft(conf.OpPut, `{"threshold":0.1,"threshold":0.9}`, 1), conf.CodeMalformed, nil},
		"big integer":     {alice, draft(conf.OpPut, `{"limits":{"rate":9007199254740993}}`, 1), conf.CodeMalformed, nil},
		"deep":            {alice, draft(conf.OpPut, deep, 1), conf.CodeMalformed, nil},
		"not utf-8":       {alice, draft(conf.OpPut, "{\"model\":\"\xff\"}", 1), conf.CodeMalformed, nil},
		"long reason":     {alice, conf.Draft{Service: "demo", Op: conf.OpPut, Document: []byte(`{}`), Reason: strings.Repeat("x", conf.MaxReason+1)}, conf.CodeInvalid, nil},
		"too large":       {alice, draft(conf.OpPut, `{"model":"`+strings.Repeat("x", conf.MaxDocument)+`"}`, 1), conf.CodeTooLarge, nil},
	} {
		t.Run(name, func(t *testing.T) {
			before, n := *f.c.Record("demo"), f.c.count()
			_, err := f.Do(t.Context(), c.who, c.d)
			if conf.CodeOf(err) != c.code {
				t.Fatalf("code %q, want %q: %v", conf.CodeOf(err), c.code, err)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Fatalf("the error holds the secret: %v", err)
			}
			e, _ := errors.AsType[*conf.Error](err)
			got := map[string]bool{}
			for _, d := range e.Details {
				got[d.Key] = true
				if strings.Contains(d.Message, "s3cr3t") {
					t.Fatalf("a detail holds the secret: %+v", d)
				}
			}
			want := map[string]bool{}
			for _, k := range c.keys {
				want[k] = true
			}
			if !maps.Equal(got, want) {
				t.Fatalf("details %v, want %v", e.Details, c.keys)
			}
			if c.code == conf.CodeConflict && e.Current != 1 {
				t.Fatalf("current %d", e.Current)
			}
			if after := *f.c.Record("demo"); f.c.count() != n || after.Version != before.Version {
				t.Fatal("something was written")
			}
		})
	}
	f.ready = conf.Errorf(conf.CodeReadOnly, "down")
	if _, err := f.Do(t.Context(), alice, draft(conf.OpPut, `{}`, 1)); !errors.Is(err, conf.ErrReadOnly) {
		t.Fatalf("not ready: %v", err)
	}
	d := draft(conf.OpPatch, `{"model":"small"}`)
	d.DryRun = true
	if out, err := f.Do(t.Context(), bob, d); err != nil || out.Version != 2 || f.c.Record("demo").Version != 1 {
		t.Fatalf("a dry run by a reader of a read-only agent: %+v, %v", out, err)
	}
}

// One service's edits queue up; another service's pass by.
func TestServicesDoNotWaitForEachOther(t *testing.T) {
	f := setup(t, "demo", "other")
	gate := make(chan struct{})
	f.c.hold["demo"] = gate
	first := make(chan error, 1)
	go func() {
		_, err := f.Do(t.Context(), alice, draft(conf.OpPatch, `{"threshold":0.1}`))
		first <- err
	}()
	<-f.c.entered
	o := draft(conf.OpPatch, `{"threshold":0.2}`)
	o.Service = "other"
	if _, err := f.Do(t.Context(), alice, o); err != nil {
		t.Fatalf("the other service: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Do(ctx, alice, draft(conf.OpPatch, `{"threshold":0.3}`)); !errors.Is(err, conf.ErrNoQuorum) {
		t.Fatalf("the same service, given up: %v", err)
	}
	close(gate)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if n := len(f.locks.slots); n != 0 {
		t.Fatalf("%d locks are kept", n)
	}
}

func TestConcurrentPatchesLoseNothing(t *testing.T) {
	f := setup(t, "demo")
	var wg sync.WaitGroup
	for _, p := range []string{`{"model":"small"}`, `{"threshold":0.9}`, `{"limits":{"rate":3}}`} {
		wg.Go(func() {
			if _, err := f.Do(t.Context(), alice, draft(conf.OpPatch, p)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if r := f.c.Record("demo"); r.Version != 4 || string(r.Config) != `{"limits":{"rate":3},"model":"small","threshold":0.9}` {
		t.Fatalf("%d %s", r.Version, r.Config)
	}
}

// late shows the editor an older state until Confirm is asked, as a leader does
// for a change that is still on its way through the log.
type late struct {
	*cluster
	old map[string]*conf.Record
}

func (l *late) Record(s string) *conf.Record {
	if r, ok := l.old[s]; ok {
		return r
	}
	return l.cluster.Record(s)
}

func TestPatchAfterAConcurrentEdit(t *testing.T) {
	f := setup(t, "demo")
	l := &late{cluster: f.c, old: map[string]*conf.Record{"demo": f.c.Record("demo")}}
	if _, err := f.Do(t.Context(), alice, draft(conf.OpPatch, `{"model":"small"}`)); err != nil {
		t.Fatal(err)
	}
	o := f.o
	o.Records = l
	o.Confirm = func(context.Context) error { l.old = nil; return nil }
	stale := New(o)
	if out, err := stale.Do(t.Context(), alice, draft(conf.OpPatch, `{"threshold":0.9}`)); err != nil || out.Version != 3 {
		t.Fatalf("%+v %v", out, err)
	}
	if r := f.c.Record("demo"); string(r.Values) != `{"model":"small","threshold":0.9}` {
		t.Fatal(string(r.Values))
	}
	// Who names a version gets the conflict.
	l.old = map[string]*conf.Record{"demo": {Service: "demo", Version: 1, Schema: f.c.Record("demo").Schema}}
	if _, err := stale.Do(t.Context(), alice, draft(conf.OpPut, `{}`, 1)); !errors.Is(err, conf.ErrConflict) {
		t.Fatalf("%v", err)
	}
}

// The answer was lost on the way; the same Idempotency-Key gets it again.
func TestRetryAfterUnknownOutcome(t *testing.T) {
	f := setup(t, "demo")
	d := draft(conf.OpPut, `{"threshold":0.7}`, 1)
	d.RequestID = "req-1"
	f.c.lose = conf.Errorf(conf.CodeOutcomeUnknown, "leadership lost")
	if _, err := f.Do(t.Context(), alice, d); !errors.Is(err, conf.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	f.c.lose = nil
	out, err := f.Do(t.Context(), alice, d)
	if err != nil || out.Version != 2 || f.c.Record("demo").Version != 2 {
		t.Fatalf("retry: %+v, %v", out, err)
	}
	// The key that ids are made of changed in between.
	d.RequestID, d.EarlierIDs = "req-1-anew", []string{"req-0", "req-1"}
	if out, err := f.Do(t.Context(), alice, d); err != nil || out.Version != 2 || f.c.Record("demo").Version != 2 {
		t.Fatalf("retry under another key: %+v, %v", out, err)
	}
	mallory := conf.Principal{Name: "mallory", Role: conf.RoleWrite}
	if _, err := f.Do(t.Context(), mallory, d); !errors.Is(err, conf.ErrConflict) {
		t.Fatalf("another caller's same key: %v", err)
	}
}
