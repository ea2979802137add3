package rendertest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv"
)

var all = flag.Bool("all", false, "kill at 200 random moments, not at 12")

const killYAML = `
groups:
  - name: one
    service: router
    targets:
      - {path: out.json, format: json}
      - {path: out.conf, template: long.tmpl, check: [grep, -q, end, "{{.path}}"]}
    reload: {command: [sh, -c, 'cp "$0" "$1.new" && mv "$1.new" "$1"', DIR/out.conf, DIR/told]}
`

// longTemplate says one value 90,000 times: writing that takes a while, in which a torn file
// would show.
const longTemplate = `{{- $n := .router_stream_max_chars -}}
{{- $ten := split "," "0,1,2,3,4,5,6,7,8,9" -}}
{{- range $ten}}{{range $ten}}{{range $ten}}{{range $ten}}{{$n}} {{$n}} {{$n}} {{$n}} {{$n}} {{$n}} {{$n}} {{$n}} {{$n}}
{{end}}{{end}}{{end}}{{end}}end {{$n}}
`

// looker reads the files of a directory all the while.
type looker struct {
	dir  string
	last int // the highest value that was seen in out.conf
	bad  []string
	n    atomic.Int64
}

// look reads both files once.
func (l *looker) look() {
	l.n.Add(1)
	data, err := os.ReadFile(filepath.Join(l.dir, "out.json"))
	var doc map[string]any
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err != nil || doc["router_stream_max_chars"] == nil {
		l.bad = append(l.bad, fmt.Sprintf("out.json: %v: %.80q", err, data))
	}
	data, err = os.ReadFile(filepath.Join(l.dir, "out.conf"))
	value, ok := whole(data)
	if err != nil || !ok {
		l.bad = append(l.bad, fmt.Sprintf("out.conf: %v: %d bytes, %.80q", err, len(data), data))
		return
	}
	if value < l.last {
		l.bad = append(l.bad, fmt.Sprintf("out.conf went from %d back to %d", l.last, value))
	}
	l.last = value
}

// whole returns the one value of a file of longTemplate.
func whole(data []byte) (value int, ok bool) {
	head, last, found := bytes.Cut(data, []byte("end "))
	n := strings.TrimSuffix(string(last), "\n")
	value, err := strconv.Atoi(n)
	line := strings.Repeat(n+" ", 8) + n + "\n"
	return value, found && err == nil && string(last) == n+"\n" && string(head) == strings.Repeat(line, 10_000)
}

// TestKills kills the agent that renders, and holdfast render beside it, at random moments
// while values change. At no moment is a target missing, empty or torn, or older than
// before; and at the end each has the last value, and its program was told of it.
func TestKills(t *testing.T) {
	t.Parallel()
	kills := 12
	if *all {
		kills = 200
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		write(t, dir, map[string]string{"render.yaml": killYAML, "long.tmpl": longTemplate})
	}
	a := testenv.NewAgent(t, "CONFIG_RENDER="+filepath.Join(dirs[0], "render.yaml"))
	a.Start()
	a.AwaitNormal()
	value := 1000
	a.Patch("router", fmt.Sprintf(`{"router_stream_max_chars":%d}`, value))
	bin := testenv.Binary(t, "./cmd/holdfast")
	startRenderer := func() *testenv.Process {
		return testenv.Spawn(t, dirs[1], a.Env(), bin, "render", "-f", filepath.Join(dirs[1], "render.yaml"))
	}
	renderer := startRenderer()
	for _, dir := range dirs {
		testenv.Await(t, "the first files", func() bool {
			v, ok := whole([]byte(read(filepath.Join(dir, "out.conf"))))
			return ok && v == value && read(filepath.Join(dir, "out.json")) != "" && read(filepath.Join(dir, "told")) != ""
		})
	}
	lookers, stop := []*looker{{dir: dirs[0]}, {dir: dirs[1]}}, make(chan struct{})
	var looking sync.WaitGroup
	for _, l := range lookers {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					l.look()
				}
			}
		})
	}
	var once sync.Once
	end := func() { once.Do(func() { close(stop); looking.Wait() }) }
	defer end()
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for i := range kills {
		value++
		a.Patch("router", fmt.Sprintf(`{"router_stream_max_chars":%d}`, value))
		moment := lookers[(i+1)%2].n.Load() + random.Int64N(500)
		testenv.Await(t, "a random moment of the change", func() bool { return lookers[(i+1)%2].n.Load() >= moment })
		if i%2 == 0 {
			a.Kill()
			a.Start()
			a.AwaitNormal()
		} else {
			renderer.Kill()
			renderer = startRenderer()
		}
	}
	for _, dir := range dirs {
		testenv.Await(t, "the last value to be in the files and told", func() bool {
			v, ok := whole([]byte(read(filepath.Join(dir, "out.conf"))))
			told, toldWhole := whole([]byte(read(filepath.Join(dir, "told"))))
			return ok && v == value && toldWhole && told == value && strings.Contains(read(filepath.Join(dir, "out.json")), fmt.Sprintf(": %d", value))
		})
	}
	end()
	for _, l := range lookers {
		t.Logf("%s: looked %d times, last value %d", l.dir, l.n.Load(), l.last)
		for _, bad := range l.bad[:min(5, len(l.bad))] {
			t.Error(bad)
		}
		if l.n.Load() < int64(kills) {
			t.Errorf("looked only %d times", l.n.Load())
		}
	}
	for _, dir := range dirs {
		testenv.Await(t, "no temporary file to be left", func() bool {
			entries, err := os.ReadDir(dir)
			return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.Contains(e.Name(), ".tmp-") })
		})
	}
}
