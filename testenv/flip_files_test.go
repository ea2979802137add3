package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// oneFlip is one bit of one file in a data directory.
type oneFlip struct {
	file   string // relative to the directory
	offset int64
	bit    int
}

func (f oneFlip) String() string {
	return fmt.Sprintf("bit %d of byte %d of %s", f.bit, f.offset, f.file)
}

// flipsOf lists flips in each file of a data directory: the first and the last bytes, the
// ends of the lines of a small file, and some that a fixed seed chooses.
func flipsOf(t testing.TB, dir string, each int) (out []oneFlip) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return err
		}
		file, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		seen := map[int]bool{}
		add := func(offset int) {
			if offset >= 0 && offset < len(data) && !seen[offset] {
				seen[offset] = true
				out = append(out, oneFlip{file, int64(offset), random.IntN(8)})
			}
		}
		add(0)
		add(len(data) - 1)
		n := each
		if len(data) < 2<<10 { // text: what separates its parts
			n *= 2
			for i, b := range data {
				if b == '\n' || b == '"' && random.IntN(8) == 0 {
					add(i)
				}
			}
		}
		for range n {
			add(random.IntN(len(data)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mayKeepReadsDown is the table of docs/recovery.md: the files of a data directory, and
// whether a damaged byte may keep reads down.
func mayKeepReadsDown(t testing.TB) map[string]bool {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(Root(), "docs", "recovery.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "## A damaged file")
	if !ok {
		t.Fatal("docs/recovery.md has no section about a damaged file")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	out := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			out[name[1]] = strings.Contains(cells[2], "yes")
		}
	}
	return out
}

// documentedDown reports whether the table lets this flip keep reads down: those of a file
// that it names, and in the .env file the key of the last-known-good file alone.
func documentedDown(t testing.TB, table map[string]bool, dir string, f oneFlip) bool {
	t.Helper()
	name := f.file
	if i := strings.IndexByte(name, '/'); i >= 0 {
		name = name[:i+1]
	}
	down, known := table[name]
	if !known {
		t.Errorf("the table of docs/recovery.md lacks %s", name)
	}
	if name != ".env" {
		return down
	}
	data, err := os.ReadFile(filepath.Join(dir, f.file))
	if err != nil {
		t.Fatal(err)
	}
	value := []byte("LKG_HMAC_KEY_BASE64=")
	start := bytes.Index(data, value) + len(value)
	return int(f.offset) >= start && int(f.offset) < start+44
}

// TestFlipEveryFile flips single bits of every file in the data directory of a single
// agent, and starts it on each. No value is ever wrong, and reads are up except where the
// documentation says otherwise.
func TestFlipEveryFile(t *testing.T) {
	t.Parallel()
	each := 8
	if testing.Short() {
		each = 4
	}
	origin, want := prepared(t)
	origin.Stop()
	flipEach(t, want, origin.Dir, flipsOf(t, origin.Dir, each), func() *Agent {
		return NewAgent(t, "CONFIG_MANAGER_LOG_LEVEL=ERROR", "CONFIG_MQTT_REISSUE=0")
	}, 6)
}

// flipEach starts agents of next, which run at the same time, on copies of a directory
// with one flip each.
func flipEach(t *testing.T, want State, origin string, flips []oneFlip, next func() *Agent, agents int) {
	table := mayKeepReadsDown(t)
	var at, down, fallback, replica atomic.Int64
	var workers sync.WaitGroup
	for range agents {
		a := next()
		workers.Go(func() {
			for n := at.Add(1) - 1; n < int64(len(flips)); n = at.Add(1) - 1 {
				f := flips[n]
				CopyDir(t, origin, a.Dir)
				flip(t, filepath.Join(a.Dir, f.file), f.offset, f.bit)
				mark := len(a.Log())
				source, err := readsAfterFlip(a, want)
				a.Kill()
				switch {
				case errors.Is(err, errNoReads) && documentedDown(t, table, origin, f):
					down.Add(1)
				case err != nil:
					t.Errorf("%v: %v; the agent printed\n%s", f, err, a.Log()[mark:])
				case source == "lkg":
					fallback.Add(1)
				default:
					replica.Add(1)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d flips: %d served by the replica at the end, %d by the last-known-good file, %d not, as documented", len(flips), replica.Load(), fallback.Load(), down.Load())
	if fallback.Load() == 0 {
		t.Error("no flip kept the agent from its start: the test damages nothing")
	}
}

var errNoReads = errors.New("no reads")

// settleTime is how long a started agent is watched for a wrong value. It is no verdict:
// an agent that serves from its last-known-good file for longer is right too.
const settleTime = time.Second

// readsWithin is how long an agent may take to its first answer on a busy machine.
const readsWithin = 20 * time.Second

// readsAfterFlip starts a, and compares all that it serves until it has settled. It
// returns the source of the last answer.
func readsAfterFlip(a *Agent, want State) (source string, err error) {
	a.Start()
	look := func() bool {
		for _, name := range want.Names() {
			d, derr := a.TryDocument(name)
			if derr != nil || d.Source == "default" {
				return false
			}
			source, err = d.Source, errors.Join(err, want.Differs(d, false))
		}
		return true
	}
	if !poll(readsWithin, func() bool { return look() || !a.Running() }) || !a.Running() {
		return "", errNoReads
	}
	poll(settleTime, func() bool {
		h, ok := a.Health()
		return ok && (h.OperationalMode == conf.ModeNormal || *h.Event == "the agent cannot start") || !a.Running() || err != nil
	})
	if !look() && err == nil {
		err = errors.New("reads ended")
	}
	return source, err
}
