package edit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func TestReissue(t *testing.T) {
	f := setup(t, "demo", "other", "gone")
	needy := `{"type":"object","properties":{"url":{"type":"string"}},"required":["url"]}`
	if _, err := f.PutSchemas(t.Context(), alice, map[string][]byte{"bare": []byte(needy)}, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Do(t.Context(), alice, conf.Draft{Service: "gone", Op: conf.OpDelete}); err != nil {
		t.Fatal(err)
	}
	// A leader whose clock is a little ahead signed this one.
	ahead := *f.c.Record("other")
	ahead.IssuedAt = "2026-01-02T03:05:00+00:00"
	f.c.recs["other"] = &ahead

	f.ready = conf.Errorf(conf.CodeNoQuorum, "not the leader")
	if _, err := f.Reissue(t.Context()); !errors.Is(err, conf.ErrNoQuorum) {
		t.Fatal(err)
	}
	f.ready = nil
	for range 3 { // the clock stands still
		before := map[string]*conf.Record{}
		for _, r := range f.c.Services() {
			before[r.Service] = r
		}
		n, err := f.Reissue(t.Context())
		if err != nil || n != 3 {
			t.Fatalf("%d services, %v", n, err)
		}
		for name, old := range before {
			r := f.c.Record(name)
			if name == "bare" {
				if r != old {
					t.Fatal("a service without a document was signed")
				}
				continue
			}
			if err := seal.VerifyRecord(f.pub, r); err != nil || r.IssuedAt <= old.IssuedAt || r.Version != old.Version || r.Deleted != old.Deleted {
				t.Fatalf("%s: %v, %s after %s, version %d", name, err, r.IssuedAt, old.IssuedAt, r.Version)
			}
			if out, err := f.Do(t.Context(), alice, conf.Draft{Service: name, Op: conf.OpPut, Document: []byte(`{}`)}); err != nil || out.Version != r.Version+1 {
				t.Fatalf("%+v %v", out, err)
			}
			if now := f.c.Record(name); now.IssuedAt <= r.IssuedAt {
				t.Fatalf("%s: an edit of %s after a signature of %s", name, now.IssuedAt, r.IssuedAt)
			}
			if name == "gone" {
				if _, err := f.Do(t.Context(), alice, conf.Draft{Service: "gone", Op: conf.OpDelete}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if r := f.c.reissues[0]; len(f.c.reissues) != 3 || r.Items[2].Service != "other" || r.Items[2].IssuedAt != "2026-01-02T03:05:00.000001+00:00" {
		t.Fatalf("%d commands, the first %+v", len(f.c.reissues), r)
	}
}

// An edit and a reissue that overlap, in both orders: the newest version is always
// the one that was issued last, so a receiver of the other accepts it.
func TestReissueBesideAnEdit(t *testing.T) {
	f := setup(t, "demo", "other")
	run := func(hold string, first, second func(context.Context) error, then func()) {
		t.Helper()
		held := make(chan struct{})
		f.c.hold[hold] = held
		one, two := make(chan error, 1), make(chan error, 1)
		go func() { one <- first(t.Context()) }()
		<-f.c.entered
		go func() { two <- second(t.Context()) }()
		then()
		delete(f.c.hold, hold)
		close(held)
		for _, ch := range []chan error{one, two} {
			if err := <-ch; err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(ctx context.Context) error {
		_, err := f.Do(ctx, alice, draft(conf.OpPut, `{"threshold":0.6}`))
		return err
	}
	reissue := func(ctx context.Context) error { _, err := f.Reissue(ctx); return err }

	// The edit has signed and is on its way: the reissue waits for it and signs the
	// new version.
	run("demo", edit, reissue, func() {
		for f.locks.waiting("demo") < 2 {
			continue
		}
	})
	last := f.c.reissues[len(f.c.reissues)-1]
	if last.Items[0].Service != "other" || last.Items[1].Service != "demo" || last.Items[1].Version != 2 {
		t.Fatalf("signed %+v", last.Items)
	}
	signed := f.c.Record("demo")

	// The reissue is on its way: an edit goes past it, and is later than it although
	// the clock stands still and the records show nothing of it.
	run("reissue", reissue, edit, func() {
		for f.c.Record("demo").Version != 3 {
			continue
		}
	})
	last = f.c.reissues[len(f.c.reissues)-1]
	if last.Items[0].Service != "demo" || last.Items[0].Version != 2 || last.Issued(0) <= signed.IssuedAt {
		t.Fatalf("signed %+v after %s", last.Items, signed.IssuedAt)
	}
	if r := f.c.Record("demo"); r.Version != 3 || r.IssuedAt <= last.Issued(0) {
		t.Fatalf("version %d of %s, the reissue is of %s", r.Version, r.IssuedAt, last.Issued(0))
	}
}

func (l *locks) waiting(service string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.slots[service]; s != nil {
		return s.users
	}
	return 0
}

// A leader whose clock was an hour ahead goes back to the right time: by a reissue of the
// same version, and by the next one. The versions of both are signed.
func TestIssuedAtFollowsACorrectedClock(t *testing.T) {
	f := setup(t, "demo", "other")
	f.signs = true
	right := f.now
	f.now = right.Add(time.Hour)
	for _, service := range []string{"demo", "other"} {
		if _, err := f.Do(t.Context(), alice, conf.Draft{Service: service, Op: conf.OpPut, Document: []byte(`{"threshold":0.7}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Reissue(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.now = right.Add(time.Second)
	check := func(what, service, issued string, version uint64) {
		t.Helper()
		r := f.c.Record(service)
		if r.IssuedAt != issued || r.Version != version || seal.VerifyRecord(f.pub, r) != nil ||
			!seal.VerifyVersion(f.pub, r.Service, r.Epoch, r.Version, r.Checksum, r.VersionSignature) {
			t.Errorf("%s: %s, version %d issued at %s, signature of the version %q", what, service, r.Version, r.IssuedAt, r.VersionSignature)
		}
	}
	if _, err := f.Do(t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpPut, Document: []byte(`{"threshold":0.8}`)}); err != nil {
		t.Fatal(err)
	}
	check("the next version", "demo", "2026-01-02T03:04:06.000006+00:00", 3)
	check("and what waits", "other", "2026-01-02T04:04:05.000007+00:00", 2)
	if n, err := f.Reissue(t.Context()); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	check("signed again", "other", "2026-01-02T03:04:06.000006+00:00", 2)
	check("signed again", "demo", "2026-01-02T03:04:06.000007+00:00", 3)
	last := f.c.reissues[len(f.c.reissues)-1]
	if it := last.Items[1]; it.Service != "other" || it.Replaces != "2026-01-02T04:04:05.000007+00:00" || it.VersionSignature != "" {
		t.Errorf("the entry has %+v", it)
	}
}

// While a voter of an older build is there, an entry has nothing that it cannot apply.
func TestReissueBesideAnOlderBuild(t *testing.T) {
	f := setup(t, "demo")
	f.c.refuse = command.RequiredFeatures(&command.Reissue{Items: []command.ReissueItem{{Replaces: "x"}}})
	right := f.now
	f.now = right.Add(time.Hour)
	if _, err := f.Do(t.Context(), alice, conf.Draft{Service: "demo", Op: conf.OpPut, Document: []byte(`{"threshold":0.7}`)}); err != nil {
		t.Fatal(err)
	}
	f.now = right
	for range 2 {
		if _, err := f.Reissue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.c.Record("demo"); r.IssuedAt != "2026-01-02T04:04:05.000008+00:00" || r.VersionSignature != "" {
		t.Errorf("%s %q", r.IssuedAt, r.VersionSignature)
	}
	f.c.refuse = 0 // it is upgraded
	if _, err := f.Reissue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := f.c.Record("demo"); r.IssuedAt >= "2026-01-02T04" || r.VersionSignature == "" {
		t.Errorf("%s %q", r.IssuedAt, r.VersionSignature)
	}
}

// The signatures of many services are renewed in several commands: who applies one has all
// of its records in memory.
func TestReissueOfManyServices(t *testing.T) {
	const services = 2*reissuedAtOnce + 100
	f := setup(t)
	for i := range services {
		name := fmt.Sprintf("svc-%05d", i)
		f.c.recs[name] = &conf.Record{Service: name, Version: 1, Epoch: f.c.Epoch(), Config: []byte("{}"), Values: []byte("{}"), Signature: "x"}
	}
	n, err := f.Reissue(t.Context())
	if err != nil || n != services {
		t.Fatalf("%d are signed, want %d (%v)", n, services, err)
	}
	signed := 0
	for _, r := range f.c.reissues {
		if signed += len(r.Items); len(r.Items) > reissuedAtOnce {
			t.Errorf("%d signatures in one command", len(r.Items))
		}
	}
	if commands := len(f.c.reissues); commands != 3 || signed != services {
		t.Errorf("%d signatures in %d commands", signed, commands)
	}
}
