package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

func rowsFor(users ...string) []conf.Access {
	var rows []conf.Access
	for _, u := range users {
		rows = append(rows, conf.Access{UserID: u, Action: "read", Success: true, Timestamp: "2026-01-02T03:04:05+00:00"})
	}
	return rows
}

func quietSpool(t *testing.T, path string) *spool {
	t.Helper()
	s := openSpool(path, slog.New(slog.DiscardHandler))
	t.Cleanup(s.close)
	return s
}

// users empties a spool and lists whose rows were in it.
func users(s *spool) string {
	var out []string
	for {
		b, ok := s.first()
		if !ok {
			return strings.Join(out, " ")
		}
		for _, r := range b.Rows {
			out = append(out, r.UserID)
		}
		s.delivered(b)
	}
}

func TestSpoolSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.spool")
	a := quietSpool(t, path)
	if err := a.add(rowsFor("1", "1")); err != nil {
		t.Fatal(err)
	}
	b, _ := a.first()
	for _, u := range []string{"2", "3"} {
		if err := a.add(rowsFor(u, u)); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := a.first(); again.Seq != b.Seq || len(again.Rows) != 2 {
		t.Errorf("a batch that was sent is another one now: %+v", again)
	}
	a.delivered(b)
	a.delivered(b) // once only
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}

	// Another process, without the first one having ended in order.
	next := quietSpool(t, path)
	if err := next.add(rowsFor("4")); err != nil {
		t.Fatal(err)
	}
	if was, _ := next.first(); was.Source != b.Source || was.Seq != b.Seq+1 {
		t.Errorf("after a restart the batch is %s %d, before it was of %s, behind %d", was.Source, was.Seq, b.Source, b.Seq)
	}
	if next.source == a.source {
		t.Error("two processes number one queue: after a lost tail a number would mean two things")
	}
	if got := users(next); got != "2 2 3 3 4" {
		t.Errorf("left: %s", got)
	}
	if got := users(quietSpool(t, path)); got != "" {
		t.Errorf("delivered, and there again: %s", got)
	}

	// Cut at any byte, it keeps whole lines and never makes up others; what is
	// added behind a torn line is not lost with it.
	for cut := 0; cut < len(data); cut += 5 {
		p := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(p, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := quietSpool(t, p)
		if err := s.add(rowsFor("new")); err != nil {
			t.Fatal(err)
		}
		s.close()
		got := users(quietSpool(t, p))
		if !strings.HasSuffix(got, "new") || !strings.HasPrefix("1 1 2 2 3 3", strings.TrimSuffix(strings.TrimSuffix(got, "new"), " ")) && !strings.HasPrefix(got, "2 2 3 3") {
			t.Fatalf("cut at %d: %q", cut, got)
		}
	}
	// A flipped bit costs one line at most.
	for at := 0; at < len(data); at += 5 {
		bad := bytes.Clone(data)
		bad[at] ^= 4
		p := filepath.Join(t.TempDir(), "flipped")
		if err := os.WriteFile(p, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got := users(quietSpool(t, p))
		for _, ok := range []string{"2 2 3 3", "1 1 2 2 3 3", "1 1 2 2", "2 2", "3 3"} {
			if got == ok {
				got = ""
			}
		}
		if got != "" {
			t.Fatalf("flipped at %d: %q", at, got)
		}
	}
}

// taken is what takes batches, as the store does.
type taken struct {
	last map[string]uint64
	rows []string
}

func (c *taken) take(b *command.Audit) {
	if b.Seq <= c.last[b.Source] {
		return
	}
	c.last[b.Source] = b.Seq
	for _, r := range b.Rows {
		c.rows = append(c.rows, r.UserID)
	}
}

// Killed at any moment, between any two things that it does to the file, an agent
// has lost no row that it kept, and its next process delivers none twice: however
// the rows were put together, and whether the cluster took what was under way.
func TestSpoolKilledAnywhere(t *testing.T) {
	dir := t.TempDir()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		path := filepath.Join(dir, fmt.Sprint(seed))
		c, n := &taken{last: map[string]uint64{}}, 0
		for life := range 5 {
			s := quietSpool(t, path)
			for range r.IntN(40) {
				switch r.IntN(4) {
				case 0, 1:
					names := make([]string, 1+r.IntN(3))
					for i := range names {
						names[i] = fmt.Sprint(n + i)
					}
					if err := s.add(rowsFor(names...)); err != nil {
						t.Fatal(err)
					}
					n += len(names)
				case 2:
					if b, ok := s.first(); ok && r.IntN(2) == 0 {
						c.take(b) // and the answer is lost
					}
				case 3:
					if b, ok := s.first(); ok {
						c.take(b)
						s.delivered(b)
					}
				}
				if r.IntN(8) == 0 && s.sent == nil {
					if err := s.rewrite(); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Killed: the file is what it is, and the memory is gone.
			if life == 4 {
				s = quietSpool(t, path)
				for b, ok := s.first(); ok; b, ok = s.first() {
					c.take(b)
					s.delivered(b)
				}
			}
		}
		for i, u := range c.rows {
			if u != fmt.Sprint(i) {
				t.Fatalf("seed %d: row %d is %s: lost, twice or out of order: %v", seed, i, u, c.rows)
			}
		}
		if len(c.rows) != n {
			t.Fatalf("seed %d: %d of %d rows", seed, len(c.rows), n)
		}
	}
}

// A batch that is still under way when the agent is killed may come late. The next
// process sends the same one, so that it does not matter which of them counts.
func TestBatchUnderWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.spool")
	s := quietSpool(t, path)
	for _, u := range []string{"1", "2", "3"} {
		if err := s.add(rowsFor(u)); err != nil {
			t.Fatal(err)
		}
	}
	late, _ := s.first()
	if err := s.add(rowsFor("4")); err != nil {
		t.Fatal(err)
	}
	next := quietSpool(t, path)
	if b, _ := next.first(); b.Source != late.Source || b.Seq != late.Seq || len(b.Rows) != len(late.Rows) {
		t.Errorf("sent before the kill: %+v, after it: %+v", late, b)
	}
	if got := users(next); got != "1 2 3 4" {
		t.Errorf("left: %s", got)
	}
}

// A row is in the file when its request is answered: a killed agent then
// does not take it away.
func TestRowSurvivesKill(t *testing.T) {
	f := &flaky{last: map[string]uint64{}, down: true}
	path := filepath.Join(t.TempDir(), "audit.spool")
	a := New(path, f.send, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { a.Run(ctx) })
	const n = 50
	for i := range n {
		a.Record(conf.Access{UserID: fmt.Sprint(i), Action: "read"})
		data, err := os.ReadFile(path) // as of a process that was killed now
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), fmt.Sprintf(`"user_id":"%d"`, i)) {
			t.Fatalf("row %d is not kept when its request is answered", i)
		}
	}
	killed := path + ".killed"
	data, _ := os.ReadFile(path)
	if err := os.WriteFile(killed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cancel()
	done.Wait()
	if got := strings.Fields(users(quietSpool(t, killed))); len(got) != n {
		t.Errorf("%d of %d rows after the kill", len(got), n)
	}
}

// A server that lost its log comes back under another id, with the queue that it had:
// the database knows it by one name, and counts a batch once.
func TestQueueKeepsItsName(t *testing.T) {
	long := strings.Repeat("n", conf.MaxNodeID)
	for _, id := range []string{"n1", "a-r", "n1-r1", long} {
		was := QueueID(id, true, "q")
		for n := 2; n < 200; n += 99 {
			if now := QueueID(conf.IncarnationID(id, n), true, "q"); now != was {
				t.Errorf("%s is %s, and as %s it is %s", id, was, conf.IncarnationID(id, n), now)
			}
		}
	}
	if QueueID("n1-r2", false, "q") == QueueID("n1", true, "q") {
		t.Error("a sidecar that chose its name speaks for the queue of a server")
	}
	if QueueID("n1", true, "q") != "n1/q" {
		t.Error("the queues that are there have other names now")
	}
}

// A member whose clock is years ahead does not write rows that nothing ever prunes.
func TestRowsAheadOfTheClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rows := rowsFor("right", "a bit ahead", "years ahead")
	rows[1].Timestamp = conf.FormatTime(now.Add(maxAhead))
	rows[2].Timestamp = conf.FormatTime(now.AddDate(10, 0, 0))
	rows[2].Reason = strings.Repeat("\u00e9", maxField/2)
	want := []string{rows[0].Timestamp, rows[1].Timestamp, conf.FormatTime(now)}
	ClampTimestamps(rows, now)
	for i, r := range rows {
		if r.Timestamp != want[i] {
			t.Errorf("%s: %s, want %s", r.UserID, r.Timestamp, want[i])
		}
	}
	if r := rows[2].Reason; !strings.HasSuffix(r, "2036-01-02T03:04:05+00:00)") || len(r) > maxField || !utf8.ValidString(r) {
		t.Errorf("what its clock said is lost: %q", r)
	}
}

func TestSpoolIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.spool")
	s := quietSpool(t, path)
	s.limit = 64 << 10
	n := 0
	for s.add(rowsFor(fmt.Sprint(n))) == nil {
		n++
	}
	if fi, _ := os.Stat(path); fi.Size() > s.limit || n < 100 {
		t.Errorf("%d batches in %d bytes", n, fi.Size())
	}
	if got := strings.Fields(users(s)); len(got) != n {
		t.Errorf("%d of %d batches", len(got), n)
	}
	// The file does not grow with what was delivered.
	for i := range 5 * n {
		if err := s.add(rowsFor(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		users(s)
	}
	if fi, _ := os.Stat(path); fi.Size() > 2*maxIdleBytes {
		t.Errorf("%d bytes, and nothing waits", fi.Size())
	}
	// Nor while something always waits.
	for i := range 12000 {
		b, _ := s.first()
		if err := s.add(rowsFor(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if b != nil {
			s.delivered(b)
		}
	}
	if fi, _ := os.Stat(path); fi.Size() > maxDeadBytes+maxIdleBytes {
		t.Errorf("%d bytes, and one row waits", fi.Size())
	}
	if got := users(s); got != "11999" {
		t.Errorf("left: %s", got)
	}
	// Without a file it works until the process ends.
	nowhere := quietSpool(t, filepath.Join(path, "no", "directory"))
	if err := nowhere.add(rowsFor("x")); err != nil || users(nowhere) != "x" {
		t.Errorf("without a file: %v", err)
	}
}

// flaky takes batches as the log does, and loses answers.
type flaky struct {
	mu   sync.Mutex
	down bool
	n    int
	good int // answers that arrive between two that are lost
	last map[string]uint64
	got  []string
}

func (f *flaky) send(_ context.Context, b *command.Audit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return conf.Errorf(conf.CodeNoQuorum, "no leader")
	}
	for _, r := range b.Rows {
		if r.UserID == "poison" {
			return conf.Errorf(conf.CodeMalformed, "no")
		}
	}
	if b.Seq > f.last[b.Source] {
		f.last[b.Source] = b.Seq
		for _, r := range b.Rows {
			f.got = append(f.got, r.UserID)
		}
	}
	if f.n++; f.n%(f.good+1) == 0 {
		return conf.Errorf(conf.CodeOutcomeUnknown, "the answer was lost")
	}
	return nil
}

func TestLogDeliversOnce(t *testing.T) {
	f := &flaky{last: map[string]uint64{}, down: true, good: 1}
	path := filepath.Join(t.TempDir(), "audit.spool")
	quiet := slog.New(slog.DiscardHandler)
	want := 0
	for life := range 4 {
		if life == 2 {
			f.down = false
		}
		a := New(path, f.send, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { a.Run(ctx) })
		for range 300 {
			a.Record(conf.Access{UserID: fmt.Sprint(want), Action: "read", Reason: "bad \xff text" + strings.Repeat("x", 5000)})
			want++
		}
		if life == 3 {
			a.Record(conf.Access{UserID: "poison", Action: "read"})
		}
		cancel()
		done.Wait()
		if life == 1 && len(f.got) > 0 {
			t.Fatal("delivered without a leader")
		}
	}
	f.good = 100 // each process that follows gets on with the first lines one by one
	for deadline := time.Now().Add(base.Patience); len(f.got) < want && time.Now().Before(deadline); {
		a := New(path, f.send, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.Run(ctx)
	}
	for i, u := range f.got {
		if u != fmt.Sprint(i) {
			t.Fatalf("row %d is %s: out of order, lost or twice", i, u)
		}
	}
	if len(f.got) < want-maxBatch { // the batch with the poison may have others in it
		t.Errorf("%d of %d rows", len(f.got), want)
	}
}

func TestReportedRowsAreChecked(t *testing.T) {
	good := command.Audit{Rows: rowsFor("a"), Source: "s", Seq: 1}
	if err := CheckReported(&good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*command.Audit){
		"no source": func(b *command.Audit) { b.Source = "" },
		"no number": func(b *command.Audit) { b.Seq = 0 },
		"action":    func(b *command.Audit) { b.Rows[0].Action = "nothing happened" },
		"time":      func(b *command.Audit) { b.Rows[0].Timestamp = "0" },
		"too many":  func(b *command.Audit) { b.Rows = rowsFor(make([]string, maxBatch+1)...) },
	} {
		b := good
		b.Rows = rowsFor("a")
		change(&b)
		if CheckReported(&b) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What the spool cannot do is an alarm until it can.
func TestAlarmsOfTheAccessLog(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	count := func(text string) int { return strings.Count(out.String(), text) }

	openSpool(filepath.Join(dir, "missing", "spool"), log).close()
	if count(alarm.SpoolUnusable.Text) != 1 || count(alarm.SpoolUnusable.End) != 0 {
		t.Errorf("without a directory: %s", &out)
	}
	l := New(filepath.Join(dir, "spool"), nil, log)
	t.Cleanup(l.spool.close)
	if count(alarm.SpoolUnusable.End) != 1 {
		t.Errorf("with a directory: %s", &out)
	}
	// The file cannot be written for some time.
	file := l.spool.f
	readOnly, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = readOnly.Close() })
	l.spool.f = readOnly
	for range 2 {
		if err := l.spool.add(rowsFor("a")); err != nil {
			t.Fatal(err)
		}
	}
	l.spool.f = file
	for range 2 {
		if err := l.spool.add(rowsFor("b")); err != nil {
			t.Fatal(err)
		}
	}
	if count(alarm.SpoolUnwritten.Text) != 1 || count(alarm.SpoolUnwritten.End) != 1 {
		t.Errorf("not written: %s", &out)
	}
	// More waits than may.
	limit := l.spool.limit
	row := func() { l.spoolRows(queued{row: rowsFor("c")[0], spooled: make(chan struct{})}) }
	l.spool.limit = 1
	row()
	row()
	l.spool.limit = limit
	row()
	row()
	if count(alarm.AccessLost.Text) != 1 || count(alarm.AccessLost.End) != 1 || l.lost.Load() != 2 {
		t.Errorf("full: %s", &out)
	}
}
