package reporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

// source serves one service, and has what rollouts would do.
type source struct {
	localapi.Source
	doc     *localapi.Document
	st      Standing
	refused []Verdict
}

func (s *source) Get(service string) (*localapi.Document, <-chan struct{}, bool) {
	return s.doc, nil, service == "stt" && s.doc != nil
}

func (s *source) Standing(string) Standing           { return s.st }
func (s *source) Join(context.Context, string) error { return nil }

func (s *source) Refuse(_ context.Context, _, epoch string, version uint64, v Verdict) error {
	s.refused = append(s.refused, v)
	s.st = Standing{Refused: version, Revert: version + 1, Epoch: epoch, Verdict: v}
	s.serve(version + 1)
	return nil
}

func (s *source) serve(version uint64) {
	s.doc = (&localapi.Renderer{}).Render(&conf.Record{Service: "stt", Version: version, Epoch: "e", Values: json.RawMessage(`{}`), Config: json.RawMessage(`{}`)})
}

func newReporter(t *testing.T, path string) (*Reporter, *source) {
	t.Helper()
	s := &source{}
	s.serve(8)
	r := New(Options{
		Instance: "stt-1", Node: func() string { return "n1" }, Services: []string{"stt"}, Source: s, Rollouts: s, Path: path,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	return r, s
}

func (r *Reporter) say(t *testing.T, version uint64, status conf.InstanceStatus, reason, worker string) error {
	t.Helper()
	return r.Acknowledge(t.Context(), "stt", conf.Ack{Version: version, Epoch: "e", Status: status, Reason: reason, Worker: worker})
}

func (r *Reporter) state(t *testing.T) string {
	t.Helper()
	got, ok := r.Local("stt")
	if !ok {
		t.Fatal("it is no instance")
	}
	return fmt.Sprintf("v%d %s %q %s refused %d", got.Version, got.Status, got.Reason, got.Health, got.Refused)
}

func TestWorstWorkerCounts(t *testing.T) {
	t.Parallel()
	r, s := newReporter(t, "")
	want := func(state string) {
		t.Helper()
		if got := r.state(t); got != state {
			t.Errorf("got %s, want %s", got, state)
		}
	}
	want(`v8 received ""  refused 0`)
	s.doc.MarkRead("")
	want(`v8 read ""  refused 0`)
	for _, c := range []struct {
		worker, reason, want string
		status               conf.InstanceStatus
	}{
		{"w1", "", `v8 applied ""  refused 0`, conf.InstanceApplied},
		{"w2", "", `v8 applying ""  refused 0`, conf.InstanceApplying},
		{"w3", "no", `v8 rejected "no"  refused 0`, conf.InstanceRejected},
		{"w3", "", `v8 applying ""  refused 0`, conf.InstanceApplied},
		{"w2", "", `v8 applied ""  refused 0`, conf.InstanceApplied},
	} {
		if err := r.say(t, 8, c.status, c.reason, c.worker); err != nil {
			t.Fatal(err)
		}
		want(c.want)
	}
	if err := r.say(t, 7, conf.InstanceApplied, "", ""); conf.CodeOf(err) != conf.CodeConflict {
		t.Errorf("another version: %v", err)
	}
	s.serve(9)
	want(`v9 received ""  refused 0`)
}

func TestRefusalOfACandidate(t *testing.T) {
	t.Parallel()
	r, s := newReporter(t, "")
	s.st = Standing{Candidate: true, CanRefuse: true}
	for range 2 { // a repeat changes nothing
		if err := r.say(t, 8, conf.InstanceRejected, "port in use", "w1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.state(t); len(s.refused) != 1 || got != `v9 received "port in use"  refused 8` {
		t.Errorf("%s, %v", got, s.refused)
	}
}

func TestHealthRefuses(t *testing.T) {
	t.Parallel()
	sick := errors.New("status 500")
	ask := func(r *Reporter, err error, faults int) {
		r.found(err, faults)
		r.refuseUnwell(t.Context())
	}
	r, s := newReporter(t, "")
	ask(r, nil, 0)
	s.serve(9)
	s.st = Standing{Candidate: true, CanRefuse: true}
	r.state(t)
	ask(r, sick, 1)
	ask(r, sick, 2)
	if len(s.refused) != 0 {
		t.Error("two failures count")
	}
	ask(r, sick, 3)
	if len(s.refused) != 1 || s.refused[0].Reason != "unhealthy: status 500" {
		t.Errorf("%v", s.refused)
	}
	r, s = newReporter(t, "") // unhealthy before the change
	ask(r, sick, 3)
	s.serve(9)
	s.st = Standing{Candidate: true, CanRefuse: true}
	r.state(t)
	ask(r, sick, 4)
	if len(s.refused) != 0 {
		t.Error("it was unhealthy before")
	}
}

func TestWordsSurviveARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "instances.json")
	r, _ := newReporter(t, path)
	if err := r.say(t, 8, conf.InstanceRejected, "no", ""); err != nil {
		t.Fatal(err)
	}
	r.flush()
	r, _ = newReporter(t, path)
	if got := r.state(t); got != `v8 rejected "no"  refused 0` {
		t.Errorf("got %s", got)
	}
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ = newReporter(t, path)
	if got := r.state(t); got != `v8 received ""  refused 0` {
		t.Errorf("got %s", got)
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	r, s := newReporter(t, "")
	var sent []conf.Report
	var fail error
	leader := uint64(3)
	r.o.Send = func(_ context.Context, reports []conf.Report) (uint64, error) {
		if fail == nil {
			sent = append(sent, reports...)
		}
		return leader, fail
	}
	now := time.Now()
	d := delivery{r: r}
	step := func(after time.Duration) int {
		sent = nil
		now = now.Add(after)
		d.step(t.Context(), now)
		return len(sent)
	}
	step(0) // for term 0: the answer names term 3
	if n := step(0); n != 1 || sent[0].Term != 3 {
		t.Fatalf("%+v", sent)
	}
	if n := step(lookEvery); n != 0 {
		t.Error("nothing has changed")
	}
	s.serve(9)
	if n := step(lookEvery); n != 1 || sent[0].Version != 9 {
		t.Errorf("%+v", sent)
	}
	if n := step(aliveEvery); n != 1 {
		t.Error("it is silent")
	}
	fail = errors.New("no leader")
	s.serve(10)
	step(lookEvery)
	fail = nil
	if n := step(lookEvery); n != 0 {
		t.Error("it does not wait after a failure")
	}
	if n := step(firstRetry); n != 1 || sent[0].Version != 10 {
		t.Errorf("%+v", sent)
	}
	leader = 4
	s.serve(11)
	step(lookEvery)
	if n := step(jitter); n != 1 || sent[0].Term != 4 || sent[0].Version != 11 {
		t.Errorf("to another leader: %+v", sent)
	}
}
