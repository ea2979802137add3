package lkg_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// feed is a Source that a test fills.
type feed struct {
	mu       sync.Mutex
	content  *lkg.Content
	epoch    string // that was returned last
	returned int
	err      error
	changed  chan struct{}
}

func newFeed() *feed { return &feed{changed: make(chan struct{})} }

func (f *feed) set(epoch string, index uint64, records ...*conf.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content = &lkg.Content{Epoch: epoch, Index: index, Records: records}
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) Next(ctx context.Context, after func() uint64) (*lkg.Content, error) {
	for {
		f.mu.Lock()
		c, changed, err := f.content, f.changed, f.err
		if err == nil && c != nil && (c.Index > after() || (f.epoch != "" && c.Epoch != f.epoch)) {
			f.returned++
			f.epoch = c.Epoch
			f.mu.Unlock()
			return c, nil
		}
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.returned
}

// logs collects lines.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// pass lets d of the bubble's time go by, and all goroutines come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// running starts Run in the bubble and ends it with the test.
func running(t *testing.T, w *lkg.Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func load(t *testing.T, path string) *lkg.Content {
	t.Helper()
	c, err := lkg.Load(path, macKey)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Fatalf("the directory holds %v", entries)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestWriterCoalesces(t *testing.T) {
	dir := t.TempDir() // removed after the bubble's goroutines have ended
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "config.lkg.json")
		stale := filepath.Join(filepath.Dir(path), ".config.lkg.json.tmp-1234")
		if err := os.WriteFile(stale, []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		src, out := newFeed(), &logs{}
		w := lkg.NewWriter(path, macKey, src, out.logger(), lkg.WriterOptions{})
		defer running(t, w)()
		pass(time.Minute)
		if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("a temporary file of a writer that died is still there")
		}
		if s := w.Status(); s != (lkg.Status{}) {
			t.Fatalf("before any content: %+v", s)
		}
		const changes = 1000
		for i := range uint64(changes) {
			src.set(epoch, i+1, record("router", i+1, `{"a":1}`))
			pass(time.Millisecond)
		}
		pass(time.Second)
		if c := load(t, path); c.Index != changes || c.Records[0].Version != changes || c.GeneratedAt.IsZero() {
			t.Fatalf("the file has index %d", c.Index)
		}
		if src.count() < 3 || src.count() > 6 {
			t.Fatalf("%d writes in a second, want one in 250 ms", src.count())
		}
		if s := w.Status(); !s.Valid || s.Err != nil || s.Index != changes || s.Written.IsZero() {
			t.Fatalf("%+v", s)
		}
		onlyFile(t, path)
		if lines := out.lines(); lines[0] != "" {
			t.Fatalf("logged %q", lines)
		}
	})
}

func TestWriterRetries(t *testing.T) {
	dir := t.TempDir() // removed after the bubble's goroutines have ended
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "config.lkg.json")
		if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		src, out := newFeed(), &logs{}
		w := lkg.NewWriter(path, macKey, src, out.logger(), lkg.WriterOptions{})
		defer running(t, w)()
		src.set(epoch, 1)
		pass(time.Minute)
		if s := w.Status(); s.Valid || conf.CodeOf(s.Err) != conf.CodeInternal || conf.HintOf(s.Err) == "" {
			t.Fatalf("%+v", s)
		}
		if src.count() < 5 || src.count() > 30 {
			t.Fatalf("%d attempts in a minute", src.count())
		}
		if lines := out.lines(); len(lines) != 1 || !strings.Contains(lines[0], alarm.LKGUnwritten.Text) {
			t.Fatalf("logged %q", lines)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		src.set(epoch, 2)
		pass(10 * time.Second)
		if s := w.Status(); !s.Valid || s.Err != nil || s.Index != 2 {
			t.Fatalf("%+v", s)
		}
		if lines := out.lines(); len(lines) != 2 || !strings.Contains(lines[1], alarm.LKGUnwritten.End) {
			t.Fatalf("logged %q", lines)
		}
		onlyFile(t, path)

		src.mu.Lock()
		src.err = errors.New("source is broken")
		src.mu.Unlock()
		src.set(epoch, 3)
		pass(time.Minute)
		if s := w.Status(); !s.Valid || s.Err == nil || s.Index != 2 {
			t.Fatalf("%+v", s)
		}
		if lines := out.lines(); len(lines) != 3 {
			t.Fatalf("logged %q", lines)
		}
	})
}

func TestWriterNoticesALostFile(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":  os.Remove,
		"tampered": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"replaced": func(path string) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+"2", data, 0o600), os.Rename(path+"2", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() // removed after the bubble's goroutines have ended
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(dir, "config.lkg.json")
				src, out := newFeed(), &logs{}
				w := lkg.NewWriter(path, macKey, src, out.logger(), lkg.WriterOptions{CheckEvery: time.Second})
				defer running(t, w)()
				src.set(epoch, 1)
				pass(time.Minute)
				if src.count() != 1 {
					t.Fatalf("%d writes of one content", src.count())
				}
				if err := harm(path); err != nil {
					t.Fatal(err)
				}
				pass(1100 * time.Millisecond)
				if load(t, path).Index != 1 || src.count() != 2 || !w.Status().Valid {
					t.Fatalf("after %d writes: %+v", src.count(), w.Status())
				}
				if lines := out.lines(); len(lines) != 2 || !strings.Contains(lines[0], alarm.LKGChanged.Text) || !strings.Contains(lines[1], alarm.LKGChanged.End) {
					t.Fatalf("logged %q", lines)
				}
				onlyFile(t, path)
			})
		})
	}
}

// A file that is refused is an alarm until another one is in its place.
func TestWriterOfARefusedFile(t *testing.T) {
	dir := t.TempDir() // removed after the bubble's goroutines have ended
	synctest.Test(t, func(t *testing.T) {
		src, out := newFeed(), &logs{}
		w := lkg.NewWriter(filepath.Join(dir, "f"), macKey, src, out.logger(), lkg.WriterOptions{Refused: errors.New("damaged")})
		defer running(t, w)()
		pass(time.Minute)
		if lines := out.lines(); len(lines) != 1 || !strings.Contains(lines[0], alarm.LKGRefused.Text) {
			t.Fatalf("logged %q", lines)
		}
		src.set(epoch, 1)
		pass(time.Minute)
		if lines := out.lines(); len(lines) != 2 || !strings.Contains(lines[1], alarm.LKGRefused.End) {
			t.Fatalf("logged %q", lines)
		}
	})
}

func TestWriterGoesOnFromTheLoadedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, encode(t, &lkg.Content{Epoch: epoch, GeneratedAt: start, Index: 7}))
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		src := newFeed()
		w := lkg.NewWriter(path, macKey, src, (&logs{}).logger(), lkg.WriterOptions{Loaded: load(t, path)})
		if s := w.Status(); s != (lkg.Status{Valid: true, Written: start, Index: 7}) {
			t.Fatalf("%+v", s)
		}
		defer running(t, w)()
		// Stopped before the replica is up: there is nothing to write, nor to wait for.
		began := time.Now()
		if err := w.Flush(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Fatalf("without a replica: %v after %s", err, time.Since(began))
		}
		src.set(epoch, 7)
		pass(time.Minute)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now, err := os.Stat(path); err != nil || !os.SameFile(before, now) {
			t.Fatalf("a file that is up to date was written: %v", err)
		}
		src.set(epoch, 8)
		pass(time.Second)
		if load(t, path).Index != 8 {
			t.Fatal("not written")
		}
		// A rebuild starts another epoch, and may start with an empty log.
		src.set(oldEpoch, 2)
		pass(time.Second)
		if c := load(t, path); c.Index != 2 || c.Epoch != oldEpoch || w.Status().Index != 2 {
			t.Fatalf("the new epoch is not written: %+v", w.Status())
		}
	})
}

func TestFlush(t *testing.T) {
	dir := t.TempDir() // removed after the bubble's goroutines have ended
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "config.lkg.json")
		src := newFeed()
		w := lkg.NewWriter(path, macKey, src, (&logs{}).logger(), lkg.WriterOptions{})
		if err := w.Flush(t.Context()); err != nil || w.Status().Valid {
			t.Fatalf("with no content: %v", err)
		}
		src.set(epoch, 3)
		if err := w.Flush(t.Context()); err != nil || load(t, path).Index != 3 {
			t.Fatalf("first: %v", err)
		}
		// In the pause that Run makes after a write, Flush does not wait.
		defer running(t, w)()
		src.set(epoch, 4)
		synctest.Wait()
		src.set(epoch, 5)
		before := time.Now()
		if err := w.Flush(t.Context()); err != nil || load(t, path).Index != 5 || time.Since(before) != 0 {
			t.Fatalf("in the pause: %v after %s", err, time.Since(before))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		src.set(epoch, 6)
		if err := w.Flush(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("ended context: %v", err)
		}
	})
}

// TestReadersSeeWholeFiles loads while the file is replaced as fast as it can be.
func TestReadersSeeWholeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.lkg.json")
	src := newFeed()
	w := lkg.NewWriter(path, macKey, src, (&logs{}).logger(), lkg.WriterOptions{})
	src.set(epoch, 1)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop, loads := make(chan struct{}), make(chan int)
	go func() {
		n, last := 0, uint64(0)
		defer func() { loads <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := lkg.Load(path, macKey)
			if err != nil || c.Index < last {
				t.Errorf("load %d after index %d: %v", n, last, err)
				return
			}
			last = c.Index
			n++
		}
	}()
	for i := range uint64(200) {
		src.set(epoch, i+2, record("router", i+1, `{"a":1}`))
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if n := <-loads; n < 10 {
		t.Fatalf("only %d loads", n)
	}
	onlyFile(t, path)
}

func TestEpochFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "health+epoch.json")
	if _, err := lkg.ReadEpoch(path); conf.CodeOf(err) != conf.CodeNotFound {
		t.Fatalf("got %v", err)
	}
	rebuilt := conf.FormatTime(start)
	for _, want := range []conf.EpochFile{
		{ConfigEpoch: epoch, SchemaVersion: 1, CreatedAt: conf.FormatTime(start)},
		{ConfigEpoch: epoch, SchemaVersion: 1, CreatedAt: conf.FormatTime(start), LastRebuild: &rebuilt},
	} {
		if err := lkg.WriteJSON(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := lkg.ReadEpoch(path); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	onlyFile(t, path)
	for name, bad := range map[string]string{"torn": `{"config_epoch":`, "empty": `{}`, "unknown": `{"config_epoch":"a","x":1}`, "zeros": "\x00\x00"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := lkg.ReadEpoch(path); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rebuild.info")
	if err := lkg.WriteJSON(path, map[string]any{"why": "<corrupt>"}, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "{\n  \"why\": \"<corrupt>\"\n}\n" {
		t.Fatalf("%q, %v", got, err)
	}
	for name, err := range map[string]error{
		"no form":      lkg.WriteJSON(path, make(chan int), 0o600),
		"no directory": lkg.WriteJSON(filepath.Join(path, "x"), 1, 0o600),
	} {
		if conf.CodeOf(err) != conf.CodeInternal || conf.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !json.Valid(got) {
		t.Fatalf("a failed write harmed the file: %q, %v", got, err)
	}
	onlyFile(t, path)
}
