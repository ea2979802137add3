package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// flip changes one bit of the byte at offset of the file.
func flip(t testing.TB, path string, offset int64, bit int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// answers is all that an agent tells of its configuration through its queries, in
// a form that does not depend on row numbers.
type answers struct {
	items   map[string]string // service/key -> value, type, description
	history map[string]string // service/version/key -> old, new, who, why
}

func ask(t testing.TB, a *Agent) (answers, error) {
	t.Helper()
	out := answers{items: map[string]string{}, history: map[string]string{}}
	var found conf.SearchResponse
	r := a.Admin("POST", "/api/config/search", `{"query":"","limit":1000}`)
	if r.Status != http.StatusOK {
		return out, fmt.Errorf("search: %s", r)
	}
	r.Into(t, &found)
	for _, i := range found.Results {
		out.items[i.Service+"/"+i.Key] = fmt.Sprint(i.ValueJSON, i.Type, i.Complexity, i.Description, i.HelpText, i.IsSecret)
	}
	var page conf.HistoryPage
	r = a.Admin("GET", "/api/config/history?limit=1000", "")
	if r.Status != http.StatusOK {
		return out, fmt.Errorf("history: %s", r)
	}
	r.Into(t, &page)
	for _, h := range page.Results {
		out.history[fmt.Sprint(h.Service, "/", h.Version, "/", h.Key)] = fmt.Sprint(string(h.OldValue), string(h.NewValue), h.ChangedBy, h.ChangeReason)
	}
	return out, nil
}

// differs says whether got tells something that want does not, or leaves it out.
func (want answers) differs(got answers) error {
	for name, pair := range map[string][2]map[string]string{
		"search": {want.items, got.items}, "history": {want.history, got.history},
	} {
		for k, v := range pair[1] {
			if pair[0][k] != v {
				return fmt.Errorf("%s tells %q of %s, want %q", name, v, k, pair[0][k])
			}
		}
		for k := range pair[0] {
			if _, ok := pair[1][k]; !ok {
				return fmt.Errorf("%s lacks %s", name, k)
			}
		}
	}
	return nil
}

// TestFlipDatabase flips single bits of config.db, all over the file, and starts
// the agent on each. It notices and heals itself from its own log, or the flip has
// hit nothing that is read; what it tells is right in every case, from the first
// answer on, whether it is asked for a document, for the history or in a search.
func TestFlipDatabase(t *testing.T) {
	t.Parallel()
	flips := 500
	if testing.Short() {
		flips = 60
	}
	origin, want := prepared(t)
	truth, err := ask(t, origin)
	if err != nil {
		t.Fatal(err)
	}
	origin.Stop()
	// A clean stop leaves nothing in the write-ahead log; a flip of the database
	// would be hidden by it otherwise.
	if info, err := os.Stat(origin.DB() + "-wal"); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes of write-ahead log are left after a clean stop", info.Size())
	}
	length := size(t, origin.DB())
	step := length / int64(flips)
	if step < 1 {
		t.Fatalf("the database has only %d bytes", length)
	}

	var next, healed, harmless atomic.Int64
	var workers sync.WaitGroup
	for range 6 { // most of a start is waiting for an election
		a := NewAgent(t, "CONFIG_MANAGER_LOG_LEVEL=ERROR", "CONFIG_MQTT_REISSUE=0")
		workers.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(flips) {
					return
				}
				offset := n*step + rand.Int64N(step)
				bit := rand.IntN(8)
				CopyDir(t, origin.Dir, a.Dir)
				flip(t, filepath.Join(a.Dir, "config.db"), offset, bit)
				noticed, err := startFlipped(t, a, want, truth)
				if err != nil {
					t.Errorf("bit %d of byte %d of %d: %v", bit, offset, length, err)
				}
				if noticed {
					healed.Add(1)
				} else {
					harmless.Add(1)
				}
				a.Kill()
			}
		})
	}
	workers.Wait()
	t.Logf("%d flips in %d bytes: %d noticed and healed, %d not noticed", flips, length, healed.Load(), harmless.Load())
	if healed.Load() < int64(flips)/5 {
		t.Errorf("only %d of %d flips were noticed: the test damages nothing, or the agent checks nothing", healed.Load(), flips)
	}
}

// startFlipped starts a on a damaged database and compares all that it says.
func startFlipped(t testing.TB, a *Agent, want State, truth answers) (noticed bool, err error) {
	var wrong []error
	look := func() {
		for _, name := range want.Names() {
			if d, err := a.TryDocument(name); err == nil {
				wrong = append(wrong, want.Differs(d, false))
			}
		}
	}
	mark := len(a.Log())
	a.Start()
	served := func() bool { _, err := a.TryDocument("stt-worker"); return err == nil || !a.Running() }
	if !poll(Patience, served) || !a.Running() {
		return false, fmt.Errorf("the agent does not serve; it printed\n%s", a.Log()[mark:])
	}
	look()
	var h conf.Health
	settled := func() bool {
		h, _ = a.Health()
		// A flip of model_hash is what it looks like: another schema version.
		return h.OperationalMode == conf.ModeNormal && h.OK || h.DatabaseStatus == conf.DatabaseSchemaMismatch || !a.Running()
	}
	if !poll(Patience, settled) || !a.Running() {
		return true, fmt.Errorf("the agent does not get back to work: %s; it printed\n%s", jsonText(h), a.Log()[mark:])
	}
	look()
	if readOnly(h) {
		return true, errors.Join(wrong...)
	}
	var got answers
	poll(Patience, func() bool { // what is refused is not wrong: the agent has met the flip, and heals
		got, err = ask(t, a)
		return err == nil || !a.Running()
	})
	if err == nil {
		err = truth.differs(got)
	}
	aside, _ := os.ReadDir(a.Path("quarantine"))
	return len(aside) > 0, errors.Join(append(wrong, err)...)
}

// TestFlipLKG flips single bits of the last-known-good file of an agent that has
// nothing else. (Package agent/lkg flips every bit of every byte; this shows the
// whole process doing what follows from it.)
func TestFlipLKG(t *testing.T) {
	t.Parallel()
	flips := 50
	if testing.Short() {
		flips = 15
	}
	a, want := prepared(t)
	a.Stop()
	a.WreckReplica()
	pristine := filepath.Join(t.TempDir(), "pristine")
	CopyDir(t, a.Dir, pristine)
	length := size(t, a.LKG())
	refused := 0
	for n := range flips {
		CopyDir(t, pristine, a.Dir)
		offset := length*int64(n)/int64(flips) + rand.Int64N(length/int64(flips))
		bit := rand.IntN(8)
		flip(t, a.LKG(), offset, bit)
		a.Start()
		h := a.AwaitHealth("the agent to say that it only reads", readOnly)
		if !h.LKGCacheValid {
			refused++
		}
		for _, name := range want.Names() {
			d, err := a.TryDocument(name)
			switch {
			case err != nil: // refused, which is never wrong
			case d.Source == "lkg":
				if err := want.Differs(d, false); err != nil {
					t.Errorf("bit %d of byte %d: %v", bit, offset, err)
				}
			case d.Source == "default":
				if d.Metadata.Signature != "" {
					t.Errorf("bit %d of byte %d: the default of %s claims to be signed", bit, offset, name)
				}
			default:
				t.Errorf("bit %d of byte %d: %s is served from %q", bit, offset, name, d.Source)
			}
		}
		a.Kill()
	}
	t.Logf("%d flips in %d bytes, %d refused by the agent, no wrong value", flips, length, refused)
	if refused < flips*9/10 {
		t.Errorf("only %d of %d flips were refused", refused, flips)
	}
}
