package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// memoryGroup is a memory cgroup of a test, of version 1 or 2.
type memoryGroup struct {
	t      *testing.T
	dir    string
	events string // the file that counts kills
}

// newMemoryGroup makes a cgroup with so many bytes of memory.
func newMemoryGroup(t *testing.T, bytes int) *memoryGroup {
	t.Helper()
	name := fmt.Sprintf("holdfast-test-%d", os.Getpid())
	g := &memoryGroup{t: t, dir: filepath.Join("/sys/fs/cgroup/memory", name), events: "memory.oom_control"}
	limit := "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // version 2
		g.dir, g.events, limit = filepath.Join("/sys/fs/cgroup", name), "memory.events", "memory.max"
	}
	needRoot(t, "a memory cgroup", func() error {
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(g.dir, limit), []byte(strconv.Itoa(bytes)), 0o600)
	})
	t.Cleanup(func() {
		Await(t, "the cgroup to be empty", func() bool { err := os.Remove(g.dir); return err == nil || errors.Is(err, fs.ErrNotExist) })
	})
	return g
}

// kills is how many processes the kernel has ended for want of memory.
func (g *memoryGroup) kills() string {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.events))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(n)
		}
	}
	return "0"
}

// inUse is the memory of the group beside the pages of files, which the kernel takes back.
func (g *memoryGroup) inUse() string {
	text, _ := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	for line := range strings.Lines(string(text)) {
		for _, head := range []string{"rss ", "anon "} {
			if n, ok := strings.CutPrefix(line, head); ok {
				return strings.TrimSpace(n)
			}
		}
	}
	return "unknown"
}

// TestSmallMemory runs an agent with 1,000 services of 40 keys where the kernel kills it when
// it takes more than 96 MB: it loads them, changes them, is read, and starts again.
// HOLDFAST_CGROUP_MB sets another size.
func TestSmallMemory(t *testing.T) {
	mb := 96
	if v, err := strconv.Atoi(os.Getenv("HOLDFAST_CGROUP_MB")); err == nil {
		mb = v
	}
	const services, keys = 1000, 40
	schemas := t.TempDir()
	for i := range services {
		var b strings.Builder
		for k := range keys {
			if k > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `"key_%02d":{"type":"integer","default":%d,"minimum":0,"maximum":1073741824,"description":"What key %d does"}`, k, i+k, k)
		}
		text := `{"type":"object","additionalProperties":false,"properties":{` + b.String() + `}}`
		if err := os.WriteFile(filepath.Join(schemas, fmt.Sprintf("service-%04d.json", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := NewAgent(t, "CONFIG_SCHEMA_DIR="+schemas)
	g := newMemoryGroup(t, mb<<20)
	a.cgroup = g.dir
	check := func(when string) {
		t.Helper()
		if n := g.kills(); n != "0" || !a.Running() {
			text, _ := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
			t.Fatalf("%s: the kernel has ended the agent %s times in %d MB:\n%s", when, n, mb, text)
		}
		rss, _ := usage(t, a.proc.Pid())
		t.Logf("%s: %s bytes of memory of its own, %.1f MB RSS", when, g.inUse(), rss)
	}
	loaded := func() bool {
		r := a.Local(fmt.Sprintf("/v1/config/service-%04d", services-1))
		return r.Status == http.StatusOK || !a.Running()
	}
	a.Start()
	Await(t, "all services", loaded)
	check("loaded")
	a.AwaitNormal()
	for i := range 300 {
		a.Admin("PATCH", fmt.Sprintf("/api/config/services/service-%04d", i*3), fmt.Sprintf(`{"key_01":%d}`, i), "Content-Type: application/json").OK(t)
	}
	check("after 300 changes")
	a.Admin("POST", "/api/config/search", `{"query":"key_07"}`, "Content-Type: application/json").OK(t)
	check("after a search in all services")
	a.Restart()
	Await(t, "all services after a restart", loaded)
	check("after a restart")
	if got := string(a.Local("/v1/config/service-0030/key_01?raw").OK(t).Body); got != "10" {
		t.Errorf("a change has become %s", got)
	}
	if !strings.Contains(a.Log(), "limited by its cgroup") {
		t.Error("the agent does not know of its limit")
	}
}

// TestIdleMemory: an agent with everything on, the brokers, the page and the backup, gives
// back what its start took. HOLDFAST_IDLE_MB sets another limit.
func TestIdleMemory(t *testing.T) {
	mb := 36.0
	if v, err := strconv.ParseFloat(os.Getenv("HOLDFAST_IDLE_MB"), 64); err == nil {
		mb = v
	}
	port := FreePorts(t, 2)
	a := StartProcess(t, "CONFIG_MQTT_ADDR="+loopback(port[0]), "CONFIG_UI_ADDR="+loopback(port[1]), "LITESTREAM_S3_ENDPOINT=file://"+t.TempDir())
	started, _ := usage(t, a.proc.Pid())
	now := started
	defer func() { t.Logf("%.1f MB RSS, %.1f after the start", now, started) }()
	Await(t, fmt.Sprintf("an idle agent with at most %.0f MB", mb), func() bool {
		now, _ = usage(t, a.proc.Pid())
		return now <= mb
	})
}
