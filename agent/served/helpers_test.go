package served_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

var testKey = []byte("0123456789abcdef0123456789abcdef")

// document is the canonical document of a content, a small number.
func document(content int) json.RawMessage {
	return fmt.Appendf(nil, `{"content":%d,"text":"a<b&c>"}`, content)
}

func contentOf(t testing.TB, rec *conf.Record) int {
	t.Helper()
	var doc struct{ Content int }
	if err := json.Unmarshal(rec.Config, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Content
}

func signed(version uint64, content, gen int) conf.SignedVersion {
	doc := document(content)
	return conf.SignedVersion{
		Version: version, Values: doc, Config: doc, Checksum: seal.Checksum(doc), IssuedAt: fmt.Sprintf("2026-01-02T03:04:%02d+00:00", gen),
		Signature: fmt.Sprintf("sig-%d-%d-%d", version, content, gen), KeyID: "k1", VersionSignature: fmt.Sprint("v", version),
	}
}

func stable(epoch string, version uint64, content, gen int) *conf.Record {
	v := signed(version, content, gen)
	rec := v.Record(&conf.Record{
		Service: "stt", Epoch: epoch, Index: version, Schema: json.RawMessage(`{"type":"object"}`),
		Secrets: []conf.SealedSecret{{Key: "token", Value: "AAAA", KeyID: "m1", CreatedAt: "c", UpdatedAt: "u"}},
	}, "2026-01-02T03:04:05+00:00", "ann")
	return rec
}

// all is the target that has every instance.
var all = []conf.Target{{Below: math.MaxUint64}}

// rolling is a stable record with a rollout that runs: the candidate is the version above the
// floor, the revert the one above that.
func rolling(rec *conf.Record, cv uint64, content int, targets []conf.Target, at uint64) *conf.Record {
	out := *rec
	out.Staged = &conf.Staged{Floor: cv + 1, Rollout: &conf.Rollout{
		ID: fmt.Sprintf("stt-%d-abcdef", cv), Candidate: signed(cv, content, 0), Salt: "s", StepIdx: at, Targets: targets,
		StartedAt: "2026-01-02T04:00:00+00:00", StartedBy: "eve",
	}}
	if rec.Staged != nil {
		out.Staged.Kept = rec.Staged.Kept
	}
	doc := rec.Config
	out.Staged.Rollout.Revert = conf.SignedVersion{
		Version: cv + 1, Values: rec.Values, Config: doc, Checksum: rec.Checksum, IssuedAt: "i", Signature: fmt.Sprint("sig-", cv+1), KeyID: "k1",
	}
	return &out
}

// promoted is the record after the promotion of what rec stages.
func promoted(rec *conf.Record) *conf.Record {
	ro := rec.Staged.Rollout
	out := ro.Candidate.Record(rec, ro.StartedAt, ro.StartedBy)
	kept := ro.Revert
	out.Staged = &conf.Staged{Floor: rec.Staged.Floor, Kept: &kept}
	return out
}

// rolledBack is the record after the rollback of what rec stages.
func rolledBack(rec *conf.Record) *conf.Record {
	ro := rec.Staged.Rollout
	out := ro.Revert.Record(rec, ro.StartedAt, ro.StartedBy)
	out.Staged = &conf.Staged{Floor: rec.Staged.Floor, Kept: rec.Staged.Kept}
	return out
}

// edited is the next edit, whatever rec stages.
func edited(rec *conf.Record, content int) *conf.Record {
	out := stable(rec.Epoch, rec.Floor()+1, content, 0)
	out.Staged = &conf.Staged{Floor: out.Version}
	return out
}

// failing is a Journal that fails while broken is set.
type failing struct {
	served.Journal
	broken bool
}

var errDisk = errors.New("the disk is broken")

func (f *failing) AppendStaged(epoch string, prev, index uint64, recs []*conf.Record, staged map[string]*lkg.Staged) bool {
	return !f.broken && f.Journal.AppendStaged(epoch, prev, index, recs, staged)
}

func (f *failing) Sync(ctx context.Context) error {
	if f.broken {
		return errDisk
	}
	return f.Journal.Sync(ctx)
}

func (f *failing) Rewrite(ctx context.Context, c *lkg.Content) error {
	if f.broken {
		return errDisk
	}
	return f.Journal.Rewrite(ctx, c)
}

// agent is one Served with its files.
type agent struct {
	*served.Served
	t       testing.TB
	dir     string
	journal *failing
	writer  *lkg.Writer
	log     *logBuffer
	noKeys  atomic.Bool // marks cannot be written
}

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu  sync.Mutex
	out strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

func views() served.Views {
	return served.Views{Served: documents.NewStableView(), Stable: documents.NewStableView()}
}

// start begins the life of an agent in a directory, as package agent does.
func start(t testing.TB, dir string, change ...func(*served.Options)) *agent {
	t.Helper()
	a := &agent{t: t, dir: dir, log: &logBuffer{}}
	log := slog.New(slog.NewTextHandler(a.log, nil))
	o := served.Options{
		Instance: func() string { return "i1" }, Services: []string{"stt"}, Dir: filepath.Join(dir, "marks"),
		Keys: func() [][]byte {
			if a.noKeys.Load() {
				return nil
			}
			return [][]byte{testKey}
		}, Views: views(), Logger: log,
	}
	for _, f := range change {
		f(&o)
	}
	a.Served = served.New(o)
	path := filepath.Join(dir, "config.lkg.json")
	loaded, err := lkg.Load(path, o.Keys()...)
	epoch, past := "", []string(nil)
	switch {
	case err == nil:
		a.Restore(loaded)
		epoch, past = loaded.Epoch, loaded.PastEpochs
	case conf.CodeOf(err) != conf.CodeNotFound:
		t.Log("the file: ", err)
	}
	provider := documents.NewLKGProvider(a.Snapshot, epoch, past, nil)
	a.writer = lkg.NewWriter(path, testKey, provider, log, lkg.WriterOptions{Loaded: loaded})
	a.journal = &failing{Journal: a.writer}
	a.Attach(a.journal, provider.Past)
	return a
}

// reset is a store that was opened, with one record at an index.
func (a *agent) reset(index uint64, rec *conf.Record) {
	a.Reset("replica", rec.Epoch, index, []*conf.Record{rec}, true)
}

func (a *agent) flush() {
	a.t.Helper()
	if err := a.writer.Flush(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// serves checks the version, the content and the channel of what is served.
func (a *agent) serves(version uint64, content int, channel string) {
	a.t.Helper()
	st := a.State("stt")
	if st.Record == nil {
		a.t.Fatalf("nothing is served, want version %d", version)
	}
	if got := contentOf(a.t, st.Record); st.Record.Version != version || got != content || st.Channel() != channel {
		a.t.Fatalf("version %d of content %d, channel %q, want %d of %d, %q", st.Record.Version, got, st.Channel(), version, content, channel)
	}
	if e, _ := a.Views().Served.Get("stt"); e.Record != st.Record {
		a.t.Fatal("the view serves another record than the state says")
	}
}

func (a *agent) stableIs(version uint64, content int) {
	a.t.Helper()
	e, ok := a.Views().Stable.Get("stt")
	if !ok || e.Record.Version != version || contentOf(a.t, e.Record) != content {
		a.t.Fatalf("stable is %+v", e)
	}
}

func (a *agent) refuse(epoch string, version uint64) error {
	return a.Refuse(a.t.Context(), "stt", epoch, version, served.Verdict{Reason: "port in use", Cause: served.CauseAck})
}

func (a *agent) mustRefuse(epoch string, version uint64) {
	a.t.Helper()
	if err := a.refuse(epoch, version); err != nil {
		a.t.Fatal(err)
	}
}
