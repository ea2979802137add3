package lkg

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

var journalKey = []byte("0123456789abcdef0123456789abcdef")

// state is a cluster of one service name to one version, as readers see it, and a Provider.
type state struct {
	epoch    string
	index    uint64
	versions map[string]uint64
}

func (s *state) record(service string) *conf.Record {
	v := s.versions[service]
	doc := fmt.Appendf(nil, `{"text":"%s","v":%d}`, strings.Repeat("x", int(v%7)*30), v)
	r := &conf.Record{
		Service: service, Version: v, Epoch: s.epoch, Config: doc, Values: doc, Checksum: seal.Checksum(doc), Index: v,
		UpdatedAt: conf.FormatTime(time.Unix(int64(v), 0)), UpdatedBy: "ann", Schema: json.RawMessage(`{"type":"object"}`),
	}
	if v%5 == 0 {
		r.Deleted, r.Config, r.Values, r.Checksum = true, json.RawMessage(emptyDocument), nil, seal.Checksum([]byte(emptyDocument))
	}
	return r
}

func (s *state) content() *Content {
	c := &Content{Epoch: s.epoch, Index: s.index}
	for service := range s.versions {
		c.Records = append(c.Records, s.record(service))
	}
	return c
}

func (s *state) Next(ctx context.Context, after func() uint64) (*Content, error) {
	if s.index > after() {
		return s.content(), nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// change makes a change of one to three services, or of none, and has the Writer append it.
func (s *state) change(w *Writer, r *rand.Rand) {
	prev := s.index
	s.index += 1 + r.Uint64N(3)
	changed := map[string]bool{}
	for range r.IntN(4) {
		service := fmt.Sprintf("svc-%d", r.IntN(8))
		s.versions[service]++
		changed[service] = true
	}
	var recs []*conf.Record
	for service := range changed {
		recs = append(recs, s.record(service))
	}
	w.Append(s.epoch, prev, s.index, recs)
}

func open(t *testing.T, path string, s *state, keys ...[]byte) *Writer {
	t.Helper()
	c, err := Load(path, keys...)
	if err != nil {
		t.Fatal(err)
	}
	s.holds(t, c)
	return NewWriter(path, keys[0], s, slog.New(slog.DiscardHandler), WriterOptions{Loaded: c})
}

// holds checks that c is the state: no reader saw anything newer.
func (s *state) holds(t *testing.T, c *Content) {
	t.Helper()
	got := map[string]uint64{}
	for _, r := range c.Records {
		got[r.Service] = r.Version
		if want := s.record(r.Service); !bytes.Equal(want.Config, r.Config) || want.Deleted != r.Deleted || !bytes.Equal(want.Schema, r.Schema) {
			t.Fatalf("%s is %s", r.Service, r.Config)
		}
	}
	if c.Epoch != s.epoch || !maps.Equal(got, s.versions) {
		t.Fatalf("loaded %s %v at %d, want %s %v at %d (%v)", c.Epoch, got, c.Index, s.epoch, s.versions, s.index, c.Journal.Err)
	}
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "d"), os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, "d", "config.lkg.json")
}

// Whatever happens between two records and at each step of a new base: a process that ends
// there loses nothing that Append returned for.
func TestJournalSurvivesTheProcess(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		path := filepath.Join(dir, "config.lkg.json")
		s := &state{epoch: "e1", index: 1, versions: map[string]uint64{"svc-0": 1}}
		w := NewWriter(path, journalKey, s, slog.New(slog.DiscardHandler), WriterOptions{})
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		some := func() {
			for range r.IntN(4) {
				s.change(w, r)
			}
		}
		dies := func() { // here, and another process goes on
			t.Helper()
			copied := copyDir(t, dir)
			next := open(t, copied, s, journalKey)
			was := *s
			was.versions = maps.Clone(s.versions)
			was.change(next, r)
			open(t, copied, &was, journalKey)
		}
		for range 12 {
			some()
			dies()
			switch r.IntN(4) {
			case 0: // restart
				w = open(t, path, s, journalKey)
				s.index = w.Status().Index // what only counted is not in the journal
			case 1: // a new epoch, with an index that begins again
				s.epoch, s.index = fmt.Sprint("e", r.Uint64()), 3
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			default:
				c := s.content()
				c.GeneratedAt = time.Now()
				some()
				var next bytes.Buffer
				signature, err := encode(&next, journalKey, c)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.journal.anchor(signature); err != nil {
					t.Fatal(err)
				}
				dies()
				some()
				dies()
				if err := os.WriteFile(path, next.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
				dies()
				some()
				dies()
				through, err := w.journal.begin(signature, c.Epoch, c.Index, int64(next.Len()), journalKey)
				if err != nil || through > s.index {
					t.Fatal(through, err)
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				w.info, w.fileIndex = info, c.Index
				w.status.Index = through
				dies()
			}
			if got := w.Status().Index; got != s.index {
				t.Fatalf("file and journal are at %d, want %d", got, s.index)
			}
		}
	}
}

// A loss of power takes any of the records that were not synced: those up to the first
// that is missing count, the file always loads, and the next record goes behind them.
func TestJournalSurvivesALossOfPower(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		path := filepath.Join(t.TempDir(), "config.lkg.json")
		s := &state{epoch: "e1", index: 1, versions: map[string]uint64{"svc-0": 1}}
		w := NewWriter(path, journalKey, s, slog.New(slog.DiscardHandler), WriterOptions{})
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var ends []int64      // of the journal, after each change
		states := []state{*s} // and what was served then
		states[0].versions = maps.Clone(s.versions)
		for range 1 + r.IntN(8) {
			s.change(w, r)
			was := *s
			was.versions = maps.Clone(s.versions)
			ends, states = append(ends, w.journal.size), append(states, was)
		}
		journal := JournalPath(path)
		data, err := os.ReadFile(journal)
		if err != nil {
			continue // nothing but changes without a record
		}
		at := int64(r.IntN(len(data)))
		damaged := bytes.Clone(data)
		switch seed % 3 {
		case 0:
			damaged = damaged[:at]
		case 1:
			damaged[at] ^= 1 << r.IntN(8)
		case 2: // a page that never came
			clear(damaged[at:min(at+64, int64(len(damaged)))])
		}
		if err := os.WriteFile(journal, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, journalKey)
		if err != nil {
			t.Fatal(err)
		}
		want := states[0]
		for i, end := range ends {
			if end <= at {
				want = states[i+1]
			}
		}
		if same := bytes.Equal(damaged, data); !same {
			want.holds(t, c)
		}
		next := NewWriter(path, journalKey, &want, slog.New(slog.DiscardHandler), WriterOptions{Loaded: c})
		for range 3 {
			want.change(next, r)
		}
		open(t, path, &want, journalKey)
	}
}

// A new base begins a new journal under the new key; until then both keys are accepted.
func TestJournalAndRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.lkg.json")
	r := rand.New(rand.NewPCG(1, 3))
	s := &state{epoch: "e1", index: 1, versions: map[string]uint64{"svc-0": 1}}
	w := NewWriter(path, journalKey, s, slog.New(slog.DiscardHandler), WriterOptions{})
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.change(w, r)
	}
	fresh := []byte("fedcba9876543210fedcba9876543210")
	w.Rekey(fresh)
	open(t, copyDir(t, dir), s, fresh, journalKey)
	s.change(w, r)
	open(t, copyDir(t, dir), s, fresh, journalKey)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.change(w, r)
	}
	open(t, copyDir(t, dir), s, fresh)
}

// A journal of another file is set aside, and begun again.
func TestJournalOfAnotherFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.lkg.json")
	r := rand.New(rand.NewPCG(1, 4))
	s := &state{epoch: "e1", index: 1, versions: map[string]uint64{"svc-0": 1}}
	w := NewWriter(path, journalKey, s, slog.New(slog.DiscardHandler), WriterOptions{})
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was := *s
	was.versions = maps.Clone(s.versions)
	for range 5 {
		s.change(w, r)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(w.journal.marks) == 0 || w.journal.size == 0 {
		s.change(w, r)
	}
	if err := os.WriteFile(path, base, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, journalKey)
	if err != nil || c.Journal.Err == nil {
		t.Fatalf("%v, %v", err, c.Journal.Err)
	}
	was.holds(t, c)
	w = NewWriter(path, journalKey, &was, slog.New(slog.DiscardHandler), WriterOptions{Loaded: c})
	for range 5 {
		was.change(w, r)
	}
	open(t, path, &was, journalKey)
	if _, err := os.Stat(JournalPath(path) + ".aside"); err != nil {
		t.Error(err)
	}
}

// Run writes no file for a change that is in the journal; one that the journal does not
// have makes it, and so does a journal that has outgrown the file.
func TestRunWritesAFileWhenTheJournalDoesNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.lkg.json")
	s := &state{epoch: "e1", index: 1, versions: map[string]uint64{"svc-0": 1}}
	w := NewWriter(path, journalKey, s, slog.New(slog.DiscardHandler), WriterOptions{})
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		s.versions["svc-1"]++
		s.index++
		w.Append(s.epoch, s.index-1, s.index, []*conf.Record{s.record("svc-1")})
	}
	if got := w.Status(); got.Index != 21 || w.fileIndex != 1 {
		t.Fatalf("%+v, file at %d", got, w.fileIndex)
	}
	s.index += 5 // not by Append
	s.versions["svc-2"] = 1
	s.versions["svc-1"]++
	s.index++
	w.Append(s.epoch, s.index-1, s.index, []*conf.Record{s.record("svc-1")})
	if got := w.Status().Index; got != 21 {
		t.Fatalf("the journal claims %d, and misses a change", got)
	}
	c, err := w.next(t.Context())
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	if err := w.Save(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := w.Status().Index; got != s.index {
		t.Fatal(got)
	}
	open(t, path, s, journalKey)
	for w.journal.size < minOutgrown {
		s.versions["svc-1"] += 5
		s.index++
		w.Append(s.epoch, s.index-1, s.index, []*conf.Record{s.record("svc-1")})
	}
	if c, err = w.next(t.Context()); err != nil || c == nil {
		t.Fatal(c, err)
	}
	if err := w.Save(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if w.journal.size != 0 || w.fileIndex != s.index {
		t.Errorf("a journal of %d bytes behind a file at %d", w.journal.size, w.fileIndex)
	}
	open(t, path, s, journalKey)
}

// The bytes that a change costs follow its size, and not that of the configuration.
func TestBytesForAChange(t *testing.T) {
	cost := func(services int) float64 {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.lkg.json")
		s := &state{epoch: "e1", index: 1, versions: map[string]uint64{}}
		for i := range services {
			s.versions[fmt.Sprintf("svc-%d", i)] = 1
		}
		w := NewWriter(path, journalKey, s, slog.New(slog.DiscardHandler), WriterOptions{})
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		const changes = 6000
		var bytes int64
		for i := range changes {
			service := fmt.Sprintf("svc-%d", i%services)
			s.versions[service]++
			s.index++
			was := w.journal.size
			w.Append(s.epoch, s.index-1, s.index, []*conf.Record{s.record(service)})
			bytes += w.journal.size - was
			if w.journal.due() {
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				bytes += info.Size()
			}
		}
		return float64(bytes) / changes
	}
	few, many := cost(10), cost(10_000)
	t.Logf("%.0f bytes for a change with 10 services, %.0f with 10,000", few, many)
	if many > 3*few || few > 3*many {
		t.Errorf("%.0f bytes for a change with 10 services, %.0f with 10,000", few, many)
	}
}
