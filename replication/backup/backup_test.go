package backup_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func TestMain(m *testing.M) {
	_ = os.Unsetenv("AWS_CA_BUNDLE") // a machine's own; Litestream's client stops at it
	os.Exit(testenv.Main(m))
}

const epoch = "0d9f6b1e-7c3a-4f57-9c4e-1b2a3c4d5e6f"

// machine is a database that grows by entries, as the store does, and remembers
// what it held at each.
type machine struct {
	t    testing.TB
	path string
	db   *sql.DB
	log  *slog.Logger

	mu      sync.Mutex
	index   uint64
	digests map[uint64]string
	own     []bool
}

func newMachine(t testing.TB) *machine {
	m := &machine{t: t, path: filepath.Join(t.TempDir(), "config.db"), digests: map[uint64]string{}, log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	var err error
	m.db, err = sql.Open("sqlite", "file:"+m.path+"?_pragma=journal_mode(WAL)&_pragma=wal_autocheckpoint(0)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.db.Close() })
	m.db.SetMaxOpenConns(1)
	if _, err := m.db.Exec("CREATE TABLE entries (idx INTEGER PRIMARY KEY, body TEXT NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	return m
}

// apply adds n entries, each in a transaction of its own.
func (m *machine) apply(n int) {
	m.t.Helper()
	for range n {
		m.mu.Lock()
		next := m.index + 1
		m.mu.Unlock()
		body := fmt.Sprintf("%d %s", next, noise(next, 900))
		if _, err := m.db.Exec("INSERT INTO entries (idx, body) VALUES (?, ?)", next, body); err != nil {
			m.t.Fatal(err)
		}
		m.mu.Lock()
		m.index = next
		m.digests[next] = digestOf(m.digests[next-1], body)
		m.mu.Unlock()
	}
}

// noise is the same for the same entry on every machine, and does not get much
// smaller when it is compressed.
func noise(entry uint64, n int) string {
	text := ""
	for sum := sha256.Sum256([]byte(fmt.Sprint(entry))); len(text) < n; sum = sha256.Sum256(sum[:]) {
		text += hex.EncodeToString(sum[:])
	}
	return text
}

func digestOf(before, body string) string {
	sum := sha256.Sum256([]byte(before + body))
	return hex.EncodeToString(sum[:])
}

func (m *machine) applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index
}

func (m *machine) digest(i uint64) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.digests[i]
	return d, ok
}

// check reads a restored file as the machine would have written it.
func check(ctx context.Context, file string) (backup.Content, error) {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return backup.Content{}, err
	}
	defer db.Close()
	var ok string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		return backup.Content{}, conf.Errorf(conf.CodeCorrupt, "integrity check: %s %v", ok, err)
	}
	rows, err := db.QueryContext(ctx, "SELECT idx, body FROM entries ORDER BY idx")
	if err != nil {
		return backup.Content{}, err
	}
	defer rows.Close()
	c := backup.Content{Epoch: epoch}
	for rows.Next() {
		var i uint64
		var body string
		if err := rows.Scan(&i, &body); err != nil {
			return c, err
		}
		if i != c.Index+1 {
			return c, conf.Errorf(conf.CodeCorrupt, "entry %d follows %d", i, c.Index)
		}
		c.Index, c.Digest = i, digestOf(c.Digest, body)
	}
	return c, rows.Err()
}

func (m *machine) options(target backup.Target, term uint64, node string) backup.Options {
	return backup.Options{
		Target: target, DB: m.path, Epoch: epoch, EpochCreated: "2026-01-01T00:00:00Z", Term: term, Node: node,
		Applied: m.applied, Digest: m.digest, Check: check, SyncEvery: 50 * time.Millisecond, ProbeEvery: 300 * time.Millisecond,
		Own:    func(own bool) { m.mu.Lock(); m.own = append(m.own, own); m.mu.Unlock() },
		Logger: m.log,
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

func start(t testing.TB, o backup.Options) *backup.Runner {
	r := backup.Start(o)
	t.Cleanup(func() { r.Stop(ended()) })
	return r
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// grace is what an agent gives the last sync, and orderly what a busy machine may need.
func grace(t testing.TB) context.Context { return within(t, 4*time.Second) }

func orderly(t testing.TB) context.Context { return within(t, testenv.Patience) }

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func restored(t testing.TB, target backup.Target, sel backup.Selection) backup.Restored {
	t.Helper()
	out := filepath.Join(t.TempDir(), "new", "restored.db")
	private := func(int64, int64) {
		for _, p := range []string{out, out + ".tmp"} {
			if fi, err := os.Stat(p); err == nil && fi.Mode().Perm() != 0o600 {
				t.Errorf("others can read %s while it is restored: %s", filepath.Base(p), fi.Mode())
			}
		}
	}
	got, err := backup.Restore(t.Context(), target, sel, out, check, private)
	if err != nil {
		t.Fatalf("restore %+v: %v", sel, err)
	}
	private(0, 0)
	return got
}

// holds fails unless what was restored is what the machine held at that index.
func holds(t testing.TB, m *machine, got backup.Restored) {
	t.Helper()
	if want, ok := m.digest(got.Index); !ok || want != got.Digest {
		t.Fatalf("restored index %d with the digest %s, want %s", got.Index, got.Digest, want)
	}
}

func targets(t *testing.T) map[string]func(t *testing.T) backup.Target {
	return map[string]func(t *testing.T) backup.Target{
		"file": func(t *testing.T) backup.Target {
			return backup.Target{Endpoint: "file://" + t.TempDir(), Path: "below/it"}
		},
		"s3": func(t *testing.T) backup.Target { return s3Target(testenv.NewS3(t)) },
	}
}

func s3Target(s *testenv.S3) backup.Target {
	return backup.Target{Endpoint: s.Endpoint, Bucket: s.Bucket, Path: s.Below() + "cluster-a", AccessKey: s.AccessKey, SecretKey: s.SecretKey}
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	for name, place := range targets(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := place(t)
			m := newMachine(t)
			m.apply(50)
			r := start(t, m.options(target, 3, "node-1"))
			testenv.Await(t, "the first drill", func() bool { return r.Status().Verified != nil })
			before := time.Now()
			// A file of the copy bears the time at which it was read from the WAL.
			testenv.Await(t, "the clock to go on", func() bool { return time.Since(before) > 20*time.Millisecond })
			m.apply(200)
			testenv.Await(t, "all to be copied", func() bool { st := r.Status(); return st.Behind == 0 && st.Index == 250 })
			if st := r.Status(); st.Err != nil || st.Generation != epoch+"/3-node-1" || st.LastSync.IsZero() {
				t.Errorf("status %+v", st)
			}
			got := restored(t, target, backup.Selection{})
			holds(t, m, got)
			if got.Index != 250 || got.Read == 0 {
				t.Errorf("restored %+v", got)
			}
			old := restored(t, target, backup.Selection{At: before})
			holds(t, m, old)
			if old.Index != 50 {
				t.Errorf("restored index %d for the time before the changes", old.Index)
			}
			m.apply(7)
			r.Stop(orderly(t))
			if got := restored(t, target, backup.Selection{Generation: "3-node-1"}); got.Index != 257 {
				t.Errorf("an orderly stop left the last changes out: restored %d of 257", got.Index)
			}
			if v, err := os.ReadDir(filepath.Dir(m.path)); err == nil {
				for _, e := range v {
					if strings.HasPrefix(e.Name(), ".") {
						t.Errorf("%s is left", e.Name())
					}
				}
			}
			m.mu.Lock()
			if !slices.Equal(m.own, []bool{false, true}) {
				t.Errorf("checkpoints: %v", m.own)
			}
			m.mu.Unlock()

			// The next leadership of another node: a generation of its own, and the newest.
			r2 := start(t, m.options(target, 4, "node-2"))
			testenv.Await(t, "the second generation", func() bool { return r2.Status().Verified != nil })
			gens, err := backup.List(t.Context(), target)
			if err != nil || len(gens) != 2 || gens[0].Term != 4 || gens[0].Verified == nil || gens[1].Verified == nil || gens[0].Bytes == 0 {
				t.Fatalf("list: %v %+v", err, gens)
			}
			r2.Stop(ended())
			// The same leadership again: its path is not taken twice.
			r3 := start(t, m.options(target, 4, "node-2"))
			testenv.Await(t, "a third", func() bool { return r3.Status().Verified != nil })
			if g := r3.Status().Generation; g != epoch+"/4.2-node-2" {
				t.Errorf("the generation is %s", g)
			}
		})
	}
}

// TestPlaceFails tries what a network and an S3 service do to a client. The
// writers never wait, and all is caught up afterwards.
func TestPlaceFails(t *testing.T) {
	t.Parallel()
	s := testenv.NewS3(t)
	for name, fail := range map[string]func(){
		"down":          s.Down,
		"503":           func() { s.Refuse(503, 1) },
		"some 503":      func() { s.Refuse(503, 0.5) },
		"cut":           func() { s.Cut(1) },
		"silent":        s.Hold,
		"slow":          func() { s.Slow(300 * time.Millisecond) },
		"access denied": func() { s.Refuse(403, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			target := s3Target(s)
			target.Path += "/" + strings.ReplaceAll(name, " ", "-")
			m := newMachine(t)
			m.apply(20)
			r := start(t, m.options(target, 1, "n"))
			testenv.Await(t, "the first drill", func() bool { return r.Status().Verified != nil })
			_, before := s.Met()
			fail()
			defer s.Heal()
			m.apply(100)
			testenv.Await(t, "the fault to meet some requests", func() bool { _, n := s.Met(); return n > before+5 || (name == "silent" && n > before) })
			if name == "down" || name == "503" {
				testenv.Await(t, "the fault to be told", func() bool { return r.Status().Err != nil })
			}
			m.apply(100)
			s.Heal()
			testenv.Await(t, "all to be caught up", func() bool { st := r.Status(); return st.Behind == 0 && st.Err == nil })
			holds(t, m, restored(t, target, backup.Selection{}))
		})
	}
}

// TestStartsWithoutPlace: the place is not there when the leadership begins.
func TestStartsWithoutPlace(t *testing.T) {
	t.Parallel()
	s := testenv.NewS3(t)
	target := s3Target(s)
	for name, set := range map[string]func(*backup.Target){
		"keys":   func(b *backup.Target) { b.SecretKey = "wrong" },
		"bucket": func(b *backup.Target) { b.Bucket = "nowhere" },
	} {
		wrong := target
		set(&wrong)
		m := newMachine(t)
		m.apply(3)
		r := start(t, m.options(wrong, 1, name))
		testenv.Await(t, "the fault to be told", func() bool { return r.Status().Err != nil })
		err := r.Status().Err
		if conf.HintOf(err) == "" || !strings.Contains(conf.HintOf(err), "LITESTREAM_") || strings.Contains(err.Error(), s.SecretKey) {
			t.Errorf("%s: %v, hint %q", name, err, conf.HintOf(err))
		}
		r.Stop(grace(t))
		if _, err := backup.List(t.Context(), wrong); err == nil {
			t.Errorf("%s: a list of nothing", name)
		}
	}
	s.Down()
	m := newMachine(t)
	m.apply(10)
	r := start(t, m.options(target, 9, "late"))
	testenv.Await(t, "the fault to be told", func() bool { return r.Status().Err != nil })
	m.apply(10)
	s.Heal()
	testenv.Await(t, "the first drill", func() bool { return r.Status().Verified != nil && r.Status().Behind == 0 })
}

// TestBounded: what waits for the place does not fill the disk, and the place
// gets a whole copy when it is back.
func TestBounded(t *testing.T) {
	t.Parallel()
	s := testenv.NewS3(t)
	target := s3Target(s)
	m := newMachine(t)
	o := m.options(target, 1, "n")
	o.MaxLocal = 100 << 10
	m.apply(10)
	r := start(t, o)
	testenv.Await(t, "the first drill", func() bool { return r.Status().Verified != nil })
	s.Down()
	testenv.Await(t, "the generation to be given up", func() bool { m.apply(20); return r.Status().Generation == "" })
	if _, err := os.Stat(filepath.Join(filepath.Dir(m.path), ".config.db-litestream")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files are still there: %v", err)
	}
	m.mu.Lock()
	own := slices.Clone(m.own)
	m.mu.Unlock()
	if len(own) == 0 || !own[len(own)-1] {
		t.Error("nobody makes the checkpoints now")
	}
	s.Heal()
	testenv.Await(t, "a new generation", func() bool { st := r.Status(); return st.Restarts > 0 && st.Behind == 0 && st.Err == nil })
	holds(t, m, restored(t, target, backup.Selection{}))
}

// TestPlaceLost: somebody empties the bucket under a running backup.
func TestPlaceLost(t *testing.T) {
	t.Parallel()
	s := testenv.NewS3(t)
	target := s3Target(s)
	m := newMachine(t)
	m.apply(10)
	r := start(t, m.options(target, 1, "n"))
	testenv.Await(t, "the first drill", func() bool { return r.Status().Verified != nil })
	s.Wipe()
	m.apply(5)
	testenv.Await(t, "a new generation", func() bool { st := r.Status(); return st.Restarts > 0 && st.Generation != "" && st.Err == nil })
	testenv.Await(t, "all to be copied", func() bool { return r.Status().Behind == 0 })
	holds(t, m, restored(t, target, backup.Selection{}))
}

// TestPrune keeps the newest, and the newest that was verified.
func TestPrune(t *testing.T) {
	t.Parallel()
	target := backup.Target{Endpoint: "file://" + t.TempDir()}
	m := newMachine(t)
	for term := range uint64(4) {
		m.apply(3)
		o := m.options(target, term+1, "n")
		r := start(t, o)
		testenv.Await(t, "the drill", func() bool { return r.Status().Verified != nil })
		r.Stop(ended())
	}
	gens, err := backup.List(t.Context(), target)
	if err != nil || len(gens) != 4 {
		t.Fatalf("%d generations, %v", len(gens), err)
	}
	// As if the drills of the newest two had not been.
	for _, g := range gens[:2] {
		if err := os.Remove(filepath.Join(strings.TrimPrefix(target.Endpoint, "file://"), g.ID, "holdfast.json")); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := backup.Prune(t.Context(), target, backup.ClusterIdentity{Epochs: []string{epoch}}, time.Hour, time.Now()); err != nil || len(removed) > 0 {
		t.Errorf("removed %v within the retention, %v", removed, err)
	}
	removed, err := backup.Prune(t.Context(), target, backup.ClusterIdentity{Epochs: []string{epoch}}, time.Hour, time.Now().Add(2*time.Hour))
	if err != nil || !slices.Equal(removed, []string{epoch + "/3-n", epoch + "/1-n"}) {
		t.Fatalf("removed %v, %v", removed, err)
	}
	left, err := backup.List(t.Context(), target)
	if err != nil || len(left) != 2 || left[0].Term != 4 || left[1].Term != 2 {
		t.Fatalf("left %+v, %v", left, err)
	}
	holds(t, m, restored(t, target, backup.Selection{}))
	holds(t, m, restored(t, target, backup.Selection{Verified: true}))
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		target backup.Target
		ok     bool
	}{
		{backup.Target{}, true},
		{backup.Target{Endpoint: "file:///var/backups", Path: "a/b"}, true},
		{backup.Target{Endpoint: "file://var/backups"}, false},
		{backup.Target{Endpoint: "file:///var", Path: "../etc"}, false},
		{backup.Target{Endpoint: "https://s3.amazonaws.com", Bucket: "b"}, true},
		{backup.Target{Endpoint: "https://s3.amazonaws.com"}, false},
		{backup.Target{Endpoint: "https://u:p@s3.example.com", Bucket: "b"}, false},
		{backup.Target{Endpoint: "http://127.0.0.1:9000", Bucket: "b", AccessKey: "only"}, false},
		{backup.Target{Endpoint: "s3.amazonaws.com", Bucket: "b"}, false},
		{backup.Target{Endpoint: "ftp://host", Bucket: "b"}, false},
		{backup.Target{Bucket: "b"}, false},
	} {
		if err := tc.target.Validate(); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.target, err)
		} else if err != nil && conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%+v: code %s", tc.target, conf.CodeOf(err))
		}
	}
}

// A drill that fails is an alarm until one succeeds.
func TestAlarmOfADrill(t *testing.T) {
	t.Parallel()
	m, log := newMachine(t), testenv.NewTranscript()
	m.log = slog.New(slog.NewTextHandler(log, nil))
	m.apply(3)
	o := m.options(backup.Target{Endpoint: "file://" + t.TempDir()}, 1, "n")
	var drills atomic.Int32
	o.Check = func(ctx context.Context, file string) (backup.Content, error) {
		if drills.Add(1) <= 3 { // a drill looks as often as that
			return backup.Content{}, conf.Errorf(conf.CodeCorrupt, "damaged on the way")
		}
		return check(ctx, file)
	}
	start(t, o)
	testenv.Await(t, "the end of the alarm", func() bool { return log.Has(alarm.DrillFailed.End) })
	if strings.Count(log.String(), alarm.DrillFailed.Text) != 1 {
		t.Errorf("log:\n%s", log)
	}
}
