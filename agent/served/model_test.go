package served_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// place orders what a reader has seen of one service.
type place struct {
	epoch   int
	version uint64
}

func (p place) less(o place) bool {
	return p.epoch < o.epoch || p.epoch == o.epoch && p.version < o.version
}

func epochName(n int) string { return fmt.Sprintf("e%d", n) }

func placeOf(rec *conf.Record) place {
	var p place
	_, _ = fmt.Sscanf(rec.Epoch, "e%d", &p.epoch)
	p.version = rec.Version
	return p
}

// world is a log and the agents that follow it, with what the invariants need to know.
type world struct {
	t       *testing.T
	r       *rand.Rand
	log     []*conf.Record // by log index; the first is at 1
	agents  []*node
	docs    map[place]int // content of each version that was given out
	stable  map[int]bool  // contents that were ever stable
	content int
	gen     int
	trace   []string
	seen    map[string]int // events that happened, over all runs
}

// node is one agent: its disk, and what its readers have seen.
type node struct {
	w       *world
	name    string
	dir     string
	app     int // index in the log that its database has
	live    *agent
	opened  bool           // its database, in this life
	hi      place          // highest that was read
	durable place          // of it, what a loss of power must not take back
	took    place          // the last candidate that was served
	refused map[place]bool // epoch and content that was refused, and answered
	tried   map[place]bool // that was refused, and perhaps not answered
	joined  int            // index at which its data directory began
	kill    int            // calls of the journal until the process is killed; 0: it is not
}

// killed is the panic by which a process ends in the middle of a call.
type killed struct{}

// killer is a Journal whose process may be killed at each call, and that knows what of the
// files a loss of power leaves.
type killer struct {
	served.Journal
	n *node
}

func (k killer) count() {
	if k.n.kill > 0 {
		if k.n.kill--; k.n.kill == 0 {
			panic(killed{})
		}
	}
}

func (k killer) AppendStaged(epoch string, prev, index uint64, recs []*conf.Record, staged map[string]*lkg.Staged) bool {
	k.count()
	ok := k.Journal.AppendStaged(epoch, prev, index, recs, staged)
	k.count()
	return ok
}

func (k killer) Sync(ctx context.Context) error {
	k.count()
	err := k.Journal.Sync(ctx)
	if err == nil {
		k.n.synced()
	}
	k.count()
	return err
}

func (k killer) Rewrite(ctx context.Context, c *lkg.Content) error {
	k.count()
	err := k.Journal.Rewrite(ctx, c)
	if err == nil {
		k.n.synced()
	}
	k.count()
	return err
}

var fileNames = []string{"config.lkg.json", "config.lkg.journal"}

// synced keeps a copy of what is on the disk now.
func (n *node) synced() { n.copyFiles(n.dir, n.dir+".synced") }

func (n *node) copyFiles(from, to string) {
	if err := os.MkdirAll(to, 0o700); err != nil {
		n.w.t.Fatal(err)
	}
	for _, name := range fileNames {
		data, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(filepath.Join(to, name))
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			n.w.t.Fatal(err)
		}
	}
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"))
}

func (w *world) happened(what string) { w.seen[what]++ }

func (w *world) last() *conf.Record { return w.log[len(w.log)-1] }

// commit appends a record to the log.
func (w *world) commit(what string, rec *conf.Record) {
	given := map[place]int{placeOf(rec): contentOf(w.t, rec)}
	p := placeOf(rec)
	if rec.Staged != nil {
		for v := range rec.Staged.Signed() {
			given[place{p.epoch, v.Version}] = contentOf(w.t, &conf.Record{Config: v.Config})
		}
	}
	for at, content := range given {
		if have, ok := w.docs[at]; ok && have != content {
			w.fail("the test gives version %v two contents", at)
		}
		w.docs[at] = content
	}
	w.stable[contentOf(w.t, rec)] = true
	w.log = append(w.log, rec)
	w.say("%3d log: %s: stable %v", len(w.log), what, p)
}

// act makes one random entry.
func (w *world) act() {
	rec, at := w.last(), uint64(len(w.log)+1)
	var ro *conf.Rollout
	if rec.Staged != nil {
		ro = rec.Staged.Rollout
	}
	switch k := w.r.IntN(10); {
	case k == 0 || ro == nil && k < 3:
		w.content++
		w.commit("edit", edited(rec, w.content))
	case k == 1:
		w.gen++
		w.commit("reissue", w.reissued(rec))
	case k == 2 && w.r.IntN(2) == 0:
		next := stable(epochName(placeOf(rec).epoch+1), 1, contentOf(w.t, rec), w.gen)
		w.commit("epoch", next)
	case ro == nil:
		w.content++
		w.commit("start", rolling(rec, rec.Floor()+1, w.content, []conf.Target{{Instances: []string{"i0"}}}, at))
	case k < 6 && len(ro.Targets) == 1:
		next := *rec
		st, r := *rec.Staged, *ro
		r.StepIdx, r.Targets = at, append([]conf.Target{ro.Targets[0]}, all...)
		st.Rollout, next.Staged = &r, &st
		w.commit("advance", &next)
	case k < 8:
		w.commit("promote", promoted(rec))
		w.happened("a promotion")
	default:
		w.commit("rollback", rolledBack(rec))
		w.happened("a rollback")
	}
}

// reissued is rec with new signatures of all that is signed.
func (w *world) reissued(rec *conf.Record) *conf.Record {
	out := *rec
	out.Signature = fmt.Sprint("again-", w.gen)
	if rec.Staged == nil {
		return &out
	}
	st := *rec.Staged
	sign := func(v conf.SignedVersion) conf.SignedVersion {
		v.Signature = fmt.Sprint("again-", w.gen, "-", v.Version)
		return v
	}
	if st.Rollout != nil {
		ro := *st.Rollout
		ro.Candidate, ro.Revert = sign(ro.Candidate), sign(ro.Revert)
		st.Rollout = &ro
	}
	if st.Kept != nil {
		kept := sign(*st.Kept)
		st.Kept = &kept
	}
	out.Staged = &st
	return &out
}

// dies runs f in the process of n, which may be killed in the middle of it.
func (n *node) dies(f func()) (dead bool) {
	defer func() {
		n.kill = 0
		if e := recover(); e != nil {
			if _, ok := e.(killed); !ok {
				panic(e)
			}
			n.w.say("    %s is killed in the middle of it", n.name)
			n.w.happened("a kill in the middle")
			n.live, dead = nil, true
			n.forget()
		}
	}()
	f()
	return false
}

func (n *node) begin() {
	n.live = start(n.w.t, n.dir, func(o *served.Options) { o.Instance = func() string { return n.name } })
	n.live.Attach(killer{n.live.journal, n}, func(string) []string { return nil })
	n.opened = false
	n.w.say("    %s starts", n.name)
	if n.live.State("stt").Candidate {
		n.synced() // Restore does it
	}
}

// follow opens the database, or applies what the log has up to index to.
func (n *node) follow(to int) {
	if n.r().IntN(6) == 0 {
		n.kill = 1 + n.r().IntN(5)
	}
	from := n.app
	rec := n.w.log[to-1]
	if now := n.live.State("stt").Record; now != nil && placeOf(rec).epoch < placeOf(now).epoch {
		n.app = max(to, n.app) // a database of an epoch that was left is not shown
		return
	}
	n.w.say("    %s applies %d to %d", n.name, from, to)
	n.app = to // what is committed is in the database before it is shown
	n.dies(func() {
		now, ok := n.live.Views().Stable.Get("stt")
		if !n.opened || !ok || now.Record.Epoch != rec.Epoch {
			n.opened = true
			n.live.reset(uint64(to), rec)
			n.read()
			n.write() // Writer.Run does it at once; until then a kill takes back what is plain
			return
		}
		n.live.Advance(uint64(to), n.w.log[from:to])
	})
	n.read()
}

func (n *node) r() *rand.Rand { return n.w.r }

// read is a reader of both views. It checks what must hold at each moment.
func (n *node) read() {
	if n.live == nil {
		return
	}
	st := n.live.State("stt")
	if st.Record == nil {
		return
	}
	w, p, content := n.w, placeOf(st.Record), contentOf(n.w.t, st.Record)
	if p.less(n.hi) {
		w.fail("%s goes back from %v to %v", n.name, n.hi, p)
	}
	if want, ok := w.docs[p]; !ok || want != content {
		w.fail("%s serves content %d as %v, the log has %d", n.name, content, p, want)
	}
	if n.refused[place{p.epoch, uint64(content)}] {
		w.fail("%s serves content %d (%v), which its service refused", n.name, content, p)
	}
	if !w.stable[content] && !n.targeted(p) {
		w.fail("%s serves the candidate %v and is no target", n.name, p)
	}
	if st.Candidate != (st.Channel() != "") || st.Candidate && st.Rollout == "" {
		w.fail("%s: %+v", n.name, st)
	}
	if e, ok := n.live.Views().Stable.Get("stt"); !ok || !w.stable[contentOf(w.t, e.Record)] {
		w.fail("%s shows something that never was stable to readers of stable", n.name)
	}
	if n.took == p && !st.CanRefuse {
		w.fail("%s took %v as a candidate, and cannot refuse it any more", n.name, p)
	}
	if st.Candidate {
		n.took = p
	}
	n.hi = p
	if st.Candidate || st.Mark != nil {
		n.durable = p // a loss of power must not take it back
	}
}

// targeted reports whether n was chosen for a candidate by an entry that it has applied.
func (n *node) targeted(p place) bool {
	for at, rec := range n.w.log[:n.w.topOf(n)] {
		if placeOf(rec).epoch != p.epoch || rec.Staged == nil || rec.Staged.Rollout == nil || rec.Staged.Rollout.Candidate.Version != p.version {
			continue
		}
		ro := rec.Staged.Rollout
		named := n.name == "i0" || len(ro.Targets) > 1
		if named && uint64(n.joined) < ro.StepIdx && at+1 > n.joined {
			return true
		}
	}
	return false
}

// topOf is the highest index that n has ever applied: its database may have fallen back.
func (w *world) topOf(*node) int { return len(w.log) }

// refuse is the word of the service beside n.
func (n *node) refuse() {
	st := n.live.State("stt")
	if !st.CanRefuse {
		return
	}
	broken := n.r().IntN(5) == 0
	if !broken && n.r().IntN(4) == 0 {
		n.kill = 1 + n.r().IntN(2)
	}
	n.w.say("    %s refuses %v (marks broken: %t)", n.name, placeOf(st.Record), broken)
	n.live.noKeys.Store(broken)
	var err error
	dead := n.dies(func() { err = n.live.refuse(st.Record.Epoch, st.Record.Version) })
	if n.live != nil {
		n.live.noKeys.Store(false)
	}
	what := place{placeOf(st.Record).epoch, uint64(contentOf(n.w.t, st.Record))}
	switch {
	case dead:
		n.tried[what] = true
	case err == nil:
		n.refused[what] = true
		n.w.happened("a refusal")
		if n.w.last().CandidateOf() == nil && n.w.last().Staged != nil && n.w.last().Staged.Kept != nil {
			n.w.happened("a refusal after the promotion")
		}
	case !broken:
		n.w.fail("%s: %v", n.name, err)
	}
	n.read()
	if n.r().IntN(2) == 0 { // right behind the answer
		n.end()
	}
}

// end is the end of the process in one of the ways.
func (n *node) end() {
	n.live = nil
	switch n.r().IntN(6) {
	case 0:
		n.w.say("    %s is killed, and its file is lost", n.name)
		n.w.happened("a lost file")
		for _, name := range fileNames {
			_ = os.Remove(filepath.Join(n.dir, name))
		}
		n.took = place{}
		n.hi = n.durable // what only the file had is not here before the database is open
	case 1, 2:
		n.w.say("    %s loses power", n.name)
		n.w.happened("a loss of power")
		n.copyFiles(n.dir+".synced", n.dir)
		n.hi = n.durable
		n.app = max(min(n.app, 1), n.app-n.r().IntN(4))
	case 3:
		if n.r().IntN(3) == 0 {
			n.w.say("    %s loses its data directory", n.name)
			n.w.happened("a lost directory")
			_ = os.RemoveAll(n.dir)
			_ = os.RemoveAll(n.dir + ".synced")
			if err := os.Mkdir(n.dir, 0o700); err != nil {
				n.w.t.Fatal(err)
			}
			n.hi, n.durable, n.took, n.refused, n.app, n.joined = place{}, place{}, place{}, map[place]bool{}, 0, len(n.w.log)
			return
		}
		fallthrough
	default:
		n.w.say("    %s is killed", n.name)
		n.w.happened("a kill")
		n.forget()
	}
}

// forget is what a kill may take back: right behind the begin of an epoch the file is that
// of the one before, until the writer has written it or something of a rollout had to be.
func (n *node) forget() {
	c, err := lkg.Load(filepath.Join(n.dir, "config.lkg.json"), testKey)
	if err != nil || c.Epoch != epochName(n.hi.epoch) {
		n.hi = n.durable
	}
}

// step is one event at n.
func (n *node) step() {
	if n.live == nil {
		n.begin()
		n.read()
		return
	}
	if n.app == 0 {
		n.follow(len(n.w.log)) // it joins with all that there is
		return
	}
	switch k := n.r().IntN(10); {
	case k < 5:
		to := n.app + n.r().IntN(len(n.w.log)-n.app+1)
		if !n.opened || to > n.app {
			n.follow(max(to, 1))
		}
	case k < 8:
		n.refuse()
	case k < 9:
		n.end()
	default:
		n.write()
	}
}

// write writes the file.
func (n *node) write() {
	if !n.opened {
		return // it writes what comes from a replica
	}
	n.live.flush()
	n.synced()
}

// settle brings everybody to the end of the log.
func (w *world) settle() {
	for _, n := range w.agents {
		if n.live == nil {
			n.begin()
		}
		n.kill = 0
		n.opened = false
		n.app = len(w.log)
		n.live.reset(uint64(n.app), w.last())
		n.read()
	}
}

// converge checks that all agents come to what is stable, or are held back for a reason.
func (w *world) converge() {
	if rec := w.last(); rec.Staged != nil && rec.Staged.Rollout != nil {
		w.commit("rollback", rolledBack(rec))
	}
	w.settle()
	rec := w.last()
	for _, n := range w.agents {
		st := n.live.State("stt")
		if st.Record.Version == rec.Version && st.Record.Epoch == rec.Epoch && st.Record.Signature == rec.Signature {
			continue
		}
		if what := (place{placeOf(rec).epoch, uint64(contentOf(w.t, rec))}); st.Mark == nil || !n.refused[what] && !n.tried[what] {
			w.fail("in the end %s serves %v, and stable is %v", n.name, placeOf(st.Record), placeOf(rec))
		}
		w.happened("held back in the end")
	}
	w.content++
	w.commit("edit", edited(rec, w.content))
	w.settle()
	for _, n := range w.agents {
		st := n.live.State("stt")
		if placeOf(st.Record) != placeOf(w.last()) || st.Mark != nil {
			w.fail("the next edit does not reach %s", n.name)
		}
		e, _ := n.live.Views().Stable.Get("stt")
		if e.Record != st.Record {
			w.fail("%s: two records of one version", n.name)
		}
	}
}

func newWorld(t *testing.T, seed uint64, seen map[string]int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 22)), docs: map[place]int{}, stable: map[int]bool{}, content: 1, seen: seen}
	w.say("seed %d", seed)
	w.commit("genesis", stable("e1", 7, 1, 0))
	for i := range 3 {
		n := &node{w: w, name: fmt.Sprint("i", i), dir: filepath.Join(t.TempDir(), "d"), refused: map[place]bool{}, tried: map[place]bool{}}
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w.agents = append(w.agents, n)
		n.begin()
		n.follow(1)
		if n.live != nil {
			n.write()
		}
		n.joined = 1
	}
	return w
}

// modelSeeds is how many runs there are: each syncs files some hundred times.
func modelSeeds() int {
	n, err := strconv.Atoi(os.Getenv("HOLDFAST_MODEL_SEEDS"))
	if err != nil {
		return 40
	}
	return n
}

// Several agents follow random logs, with refusals, kills at any call, losses of power, of
// files and of directories. What must hold is that of the model of decision 22.
func TestAgentsAgainstTheModel(t *testing.T) {
	t.Parallel()
	seeds, steps := modelSeeds(), 60
	seen := map[string]int{}
	for seed := range seeds {
		w := newWorld(t, uint64(seed), seen)
		for range steps {
			if w.r.IntN(3) == 0 {
				w.act()
			}
			w.agents[w.r.IntN(len(w.agents))].step()
		}
		w.converge()
	}
	for _, must := range []string{
		"a promotion", "a rollback", "a refusal", "a refusal after the promotion", "a kill", "a kill in the middle", "a loss of power", "a lost file", "a lost directory",
		"held back in the end",
	} {
		if seen[must] == 0 {
			t.Errorf("%s never happened: a check of what never happens proves nothing", must)
		}
	}
	t.Log(seen)
}
