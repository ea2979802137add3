package schemas_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// store accepts what compiles.
type store struct{}

func (store) Record(string) *conf.Record { return nil }

func (store) PutSchemas(_ context.Context, _ conf.Principal, put map[string][]byte, _, _ string) ([]conf.Outcome, error) {
	for service, raw := range put {
		if _, err := schema.Compile(service, raw); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Each file that is not loaded is an alarm until it is; a directory of which all is loaded
// says so at each start, because the alarm may be one of an earlier process.
func TestAlarmsOfTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	alarms := alarm.NewSet(log)
	load := func(unread, refused, ends int) {
		t.Helper()
		out.Reset()
		_, _ = schemas.Load(t.Context(), dir, store{}, store{}, log, alarms)
		got := out.String()
		if strings.Count(got, alarm.SchemasUnread.Text) != unread || strings.Count(got, alarm.SchemaRefused.Text) != refused ||
			strings.Count(got, alarm.SchemaRefused.End) != ends {
			t.Errorf("want %d, %d and %d:\n%s", unread, refused, ends, got)
		}
	}
	write("good.json", `{"type":"object"}`)
	load(0, 0, 1)
	write("bad.json", `{"type":7}`)
	write("Wrong.json", `{}`)
	load(1, 1, 0)
	load(0, 0, 0) // both stand
	write("bad.json", `{"type":"object"}`)
	load(0, 0, 1)
	if err := os.Remove(filepath.Join(dir, "Wrong.json")); err != nil {
		t.Fatal(err)
	}
	load(0, 0, 1)
}

// putter counts what it is given, and removes a file at the first call.
type putter struct {
	mu              sync.Mutex
	remove          string
	calls, services int
	now, most       int // bytes that callers hold
}

func (p *putter) PutSchemas(_ context.Context, _ conf.Principal, put map[string][]byte, _, _ string) ([]conf.Outcome, error) {
	size := 0
	for _, raw := range put {
		size += len(raw)
	}
	p.mu.Lock()
	p.calls++
	p.services += len(put)
	p.now += size
	p.most = max(p.most, p.now)
	_ = os.Remove(p.remove)
	p.mu.Unlock()
	runtime.Gosched()
	p.mu.Lock()
	p.now -= size
	p.mu.Unlock()
	return nil, nil
}

// A large directory goes into few entries of the log, and is never in memory as a whole.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const services, size = 300, 50 << 10
	for i := range services {
		text := `{"type":"object","description":"` + strings.Repeat("x", size) + `"}`
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("svc-%03d.json", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &putter{remove: filepath.Join(dir, "svc-299.json")}
	log := slog.New(slog.DiscardHandler)
	if _, err := schemas.Load(t.Context(), dir, store{}, p, log, alarm.NewSet(log)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d services in %d calls, %d bytes at once", p.services, p.calls, p.most)
	if p.services != services-1 {
		t.Errorf("%d services of %d: a file is read long before it is needed", p.services, services-1)
	}
	if p.calls > services/10 || p.most > services*size/5 {
		t.Errorf("%d calls, and %d bytes at once", p.calls, p.most)
	}
}
