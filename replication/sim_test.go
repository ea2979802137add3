package replication

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/walstore"
)

// sim is a cluster of real Members over real stores, on a simulated network,
// in virtual time. It checks, at each entry that a node applies, that all nodes
// apply the same entries, to the same results and the same state; that nothing
// acknowledged is lost or repeated; that a read at the leader sees all that was
// acknowledged before it began; and that no term has two leaders.
//
// The seed decides what breaks and when, but not the order of goroutines, so a seed
// repeats a history closely, not exactly.
type sim struct {
	t    *testing.T
	dir  string
	rnd  *rand.Rand // of the driver
	net  *simNet
	stop chan struct{}
	wg   sync.WaitGroup

	forgetful bool // a voter that lost its disk keeps its id
	lazy      bool // a crash reverts the log too, to the image

	mu       sync.Mutex
	nodes    []*simNode
	truth    map[uint64]fact
	versions map[string]map[uint64]string // service -> version -> the request that made it
	newest   map[string]uint64            // service -> highest acknowledged version
	problems []string
	count    map[string]int
	serial   int
}

// fact is the entry of an index, and the state after it, on all nodes.
type fact struct{ what, digest, by string }

// logOf is where a member has its log: the cluster is mixed, and a member moves its log at
// every third start.
func (s *sim) logOf(n *simNode) string {
	n.starts++
	return walstore.Kinds()[(int(n.id[len(n.id)-1])+n.starts/3)%len(walstore.Kinds())]
}

// simNode is one member across restarts; life is nil while it is down.
type simNode struct {
	id     string
	dir    string
	born   int
	starts int
	going  bool   // its removal was requested
	image  string // an earlier copy of its store, for a crash that loses writes
	life   *simLife
}

type simLife struct {
	*Node
	id   string
	st   *store.Store
	end  *simEnd
	dead atomic.Bool
}

// simMachine reports to the simulation what a node applies.
type simMachine struct {
	*store.Store
	s    *sim
	life *simLife
}

func (m *simMachine) Apply(ctx context.Context, entries []store.Entry) ([]command.Result, []*conf.Record, error) {
	results, recs, err := m.Store.Apply(ctx, entries)
	if err == nil && len(results) == len(entries) && !m.life.dead.Load() {
		m.s.applied(m.life, entries, results)
	}
	return results, recs, err
}

func (m *simMachine) Restore(ctx context.Context, r io.Reader) error {
	err := m.Store.Restore(ctx, r)
	if index, digest := m.Store.Position(); err == nil {
		m.s.mu.Lock()
		defer m.s.mu.Unlock()
		m.s.count["restores"]++
		if f, ok := m.s.truth[index]; ok && f.digest != digest {
			m.s.wrong("%s restored a snapshot of index %d to another state than %s had there", m.life.id, index, f.by)
		}
	}
	return err
}

// wrong records a violation. The caller holds mu.
func (s *sim) wrong(format string, args ...any) {
	if len(s.problems) < 20 {
		s.problems = append(s.problems, fmt.Sprintf(format, args...))
	}
}

func (s *sim) applied(l *simLife, entries []store.Entry, results []command.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range entries {
		data, err := command.Encode(e.Command)
		if err != nil {
			s.wrong("index %d: %v", e.Index, err)
			continue
		}
		r := results[i]
		f := fact{what: fmt.Sprintf("term %d, %x, %v %v", e.Term, sha256.Sum256(data), r.Versions, r.Err), by: l.id}
		f.digest, _ = l.st.DigestAt(e.Index)
		s.count["applied"]++
		was, known := s.truth[e.Index]
		switch {
		case !known:
			s.truth[e.Index] = f
		case was.what != f.what:
			s.wrong("index %d: %s applied %s, %s applied %s", e.Index, was.by, was.what, l.id, f.what)
		case was.digest != f.digest:
			s.wrong("index %d: the states of %s and %s differ after the same entry", e.Index, was.by, l.id)
		}
		if ed, ok := e.Command.(*command.Edit); ok && r.Err == nil && !r.Duplicate {
			s.made(ed.Updates[0].Service, r.Versions, ed.ID)
		}
	}
}

// made records which request created a version. The caller holds mu.
func (s *sim) made(service string, versions map[string]uint64, id string) {
	v := versions[service]
	if s.versions[service] == nil {
		s.versions[service] = map[uint64]string{}
	}
	if by, ok := s.versions[service][v]; ok && by != id {
		s.wrong("version %d of %s was made by %s and by %s", v, service, by, id)
	}
	s.versions[service][v] = id
}

func (s *sim) acknowledged(service string, v uint64, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count["acknowledged"]++
	if by := s.versions[service][v]; by != id {
		s.wrong("version %d of %s was acknowledged to %s, and was made by %q", v, service, id, by)
	}
	s.newest[service] = max(s.newest[service], v)
}

// newSim starts a cluster of voters and non-voters.
func newSim(t *testing.T, seed uint64, voters, others int) *sim {
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-sim-") // in memory: it takes no real time
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &sim{
		t: t, dir: dir, rnd: rand.New(rand.NewPCG(seed, 1)), stop: make(chan struct{}),
		truth: map[uint64]fact{}, versions: map[string]map[uint64]string{}, newest: map[string]uint64{}, count: map[string]int{},
		net: &simNet{
			rnd: rand.New(rand.NewPCG(seed, 2)), ends: map[raft.ServerAddress]*simEnd{}, cut: map[[2]raft.ServerAddress]bool{},
			delay: 2 * time.Millisecond, leaders: map[uint64]raft.ServerID{}, count: map[string]int{},
		},
	}
	s.net.wrong = func(format string, args ...any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wrong(format, args...)
	}
	first := s.add(false)
	s.await("the first one leads", time.Minute, first.life.IsLeader)
	if r, err := first.life.Propose(t.Context(), &command.Genesis{Epoch: testEpoch, At: testTime, NodeID: first.id, Reason: "test"}); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	for i := range voters + others - 1 {
		n := s.add(true)
		if err := first.life.AddNonvoter(t.Context(), n.id, n.id); err != nil {
			t.Fatal(err)
		}
		if i < voters-1 {
			if err := first.life.Promote(t.Context(), n.id); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// add makes a node with an empty directory and starts it.
func (s *sim) add(join bool) *simNode {
	s.serial++
	n := &simNode{id: fmt.Sprintf("n%d", s.serial)}
	s.fresh(n)
	s.mu.Lock()
	s.nodes = append(s.nodes, n)
	s.mu.Unlock()
	s.start(n, join)
	return n
}

// fresh gives a node a new directory.
func (s *sim) fresh(n *simNode) string {
	old := n.dir
	n.born++
	n.dir = filepath.Join(s.dir, fmt.Sprintf("%s-%d", n.id, n.born))
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	return old
}

func (s *sim) start(n *simNode, join bool) {
	st, err := store.Open(context.Background(), storeOptions(n.dir))
	if err != nil {
		s.t.Fatalf("%s: the store: %v", n.id, err)
	}
	addr := raft.ServerAddress(n.id)
	l := &simLife{id: n.id, st: st, end: s.net.open(addr, raft.ServerID(n.id))}
	wrap := func(b raftguard.LogFile) raftguard.LogFile { return b }
	if s.lazy {
		wrap = func(b raftguard.LogFile) raftguard.LogFile { return promised{b} }
	}
	l.Node, err = Open(context.Background(), Options{
		Dir: filepath.Join(n.dir, "raft"), NodeID: n.id, FSM: &simMachine{Store: st, s: s, life: l}, Join: join, Transport: l.end, LogStore: s.logOf(n),
		tuning: tuning{
			SnapshotThreshold: 30, TrailingLogs: 15, SnapshotInterval: 20 * time.Second, refused: s.net.refused(addr), wrapLog: wrap,
		},
	})
	if err != nil {
		s.net.wrong("%s does not come back: %v", n.id, err)
		_ = st.Close()
		return
	}
	s.mu.Lock()
	n.life = l
	s.mu.Unlock()
	s.wg.Go(func() {
		select {
		case err := <-l.Fault():
			if err != nil && !l.dead.Load() {
				s.net.wrong("%s: a fault: %v", n.id, err)
			}
		case <-l.end.dead:
		}
	})
	s.wg.Go(func() {
		for range l.LeaderCh() {
		}
	})
}

// promised is a log that may lack committed entries after a crash. Raft would end the
// process then, and the simulation with it; this makes it a fault.
type promised struct{ raftguard.LogFile }

func (p promised) GetLog(index uint64, out *raft.Log) error {
	err := p.LogFile.GetLog(index, out)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	pc := make([]uintptr, 16)
	for frames := runtime.CallersFrames(pc[:runtime.Callers(1, pc)]); ; {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "raft.(*Raft).processLogs") {
			return fmt.Errorf("entry %d is committed and not in the log", index)
		}
		if !more {
			return err
		}
	}
}

// halt stops a node gracefully.
func (s *sim) halt(n *simNode) {
	l := s.down(n)
	s.end(l)
	l.dead.Store(true)
}

func (s *sim) down(n *simNode) *simLife {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := n.life
	n.life = nil
	return l
}

// end stops a life; its files stay as they are.
func (s *sim) end(l *simLife) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = l.Stop(ctx)
	_ = l.end.Close()
	_ = l.st.Close()
}

// crash ends a node between two of its steps. What it still does affects files that are
// not used again. With lose its store loses what it wrote since the image: its log is
// flushed with each entry, its store is not.
func (s *sim) crash(n *simNode, lose bool) {
	synctest.Wait()
	l := n.life
	old := s.fresh(n)
	if !s.forgetful {
		copyDir(s.t, old, n.dir)
	}
	if lose && !s.forgetful && n.image != "" {
		removeStore(s.t, n.dir)
		if s.lazy {
			_ = os.RemoveAll(filepath.Join(n.dir, "raft"))
		}
		copyDir(s.t, n.image, n.dir)
		s.note("lost writes")
	}
	l.dead.Store(true)
	_ = l.end.Close()
	s.down(n)
	s.end(l)
	_ = os.RemoveAll(old)
}

// keepImage copies the store of a node as it is.
func (s *sim) keepImage(n *simNode) {
	synctest.Wait()
	if n.image != "" {
		_ = os.RemoveAll(n.image)
	}
	n.image = filepath.Join(s.dir, n.id+"-image")
	if s.lazy {
		copyDir(s.t, n.dir, n.image)
		return
	}
	if err := os.MkdirAll(n.image, 0o700); err != nil {
		s.t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(n.dir, "config.db*"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(n.image, filepath.Base(f)), data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *sim) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[what]++
}

func (s *sim) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.problems) > 0
}

// live returns the nodes that run.
func (s *sim) live() (out []*simNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		if n.life != nil {
			out = append(out, n)
		}
	}
	return out
}

// leader returns a node that reports to be leader, nil when none does.
func (s *sim) leader() *simNode {
	for _, n := range s.live() {
		if n.life.IsLeader() {
			return n
		}
	}
	return nil
}

// await lets virtual time pass until cond holds.
func (s *sim) await(what string, limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); s.pass(50 * time.Millisecond) {
		if cond() {
			return true
		}
	}
	s.net.wrong(stuck+" within %v: %s", limit, what)
	return false
}

const stuck = "did not happen"

// pass lets virtual time pass.
func (s *sim) pass(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}

// simEdit makes version of service; the document tells by which request.
func simEdit(id, service string, version uint64) *command.Edit {
	e := edit(service, version)
	e.ID = id
	values := fmt.Appendf(nil, `{"by":%q}`, id)
	u := &e.Updates[0]
	u.Values, u.Config, u.Checksum = values, values, fmt.Sprintf("%x", sha256.Sum256(values))
	return e
}

// client changes and reads services at the node that reports to be leader.
func (s *sim) client(nth int, seed uint64, pace time.Duration) {
	rnd := rand.New(rand.NewPCG(seed, uint64(100+nth)))
	var again *command.Edit // of unknown outcome, to be sent again
	for i := 0; ; i++ {
		t := time.NewTimer(time.Duration(rnd.Int64N(int64(2 * pace))))
		select {
		case <-t.C:
		case <-s.stop:
			t.Stop()
			return
		}
		live := s.live()
		if len(live) == 0 {
			continue
		}
		s.mu.Lock()
		l := live[rnd.IntN(len(live))].life
		s.mu.Unlock()
		if l == nil || !l.IsLeader() {
			continue
		}
		service := fmt.Sprintf("svc-%d", rnd.IntN(3))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if again == nil && rnd.IntN(4) == 0 {
			s.read(ctx, l, service)
		} else {
			again = s.write(ctx, l, service, fmt.Sprintf("c%d-%d", nth, i), again, rnd.IntN(2) == 0)
		}
		cancel()
	}
}

func (s *sim) read(ctx context.Context, l *simLife, service string) {
	s.mu.Lock()
	want := s.newest[service]
	s.mu.Unlock()
	if _, err := l.ReadIndex(ctx); err != nil {
		return
	}
	r, err := l.st.Queries.Record(ctx, service)
	if l.dead.Load() || (err != nil && conf.CodeOf(err) != conf.CodeNotFound) {
		return
	}
	s.note("consistent reads")
	if got := versionOf(r); got < want {
		s.net.wrong("a consistent read at %s saw version %d of %s after version %d was acknowledged", l.id, got, service, want)
	}
}

func versionOf(r *conf.Record) uint64 {
	if r == nil {
		return 0
	}
	return r.Version
}

// write proposes a change. It returns it when its outcome is not known and it is
// to be sent again.
func (s *sim) write(ctx context.Context, l *simLife, service, id string, again *command.Edit, retry bool) *command.Edit {
	c := again
	if c == nil {
		r, err := l.st.Queries.Record(ctx, service)
		if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
			return nil
		}
		c = simEdit(id, service, versionOf(r)+1)
	}
	res, err := l.Propose(ctx, c)
	switch {
	case l.dead.Load(): // a process that died has not responded
	case err == nil && res.Err == nil:
		u := c.Updates[0]
		s.acknowledged(u.Service, res.Versions[u.Service], c.ID)
		return nil
	case err == nil:
		s.note("refused")
		return nil
	case conf.CodeOf(err) == conf.CodeNoQuorum:
		return again
	}
	s.note("unknown outcomes")
	if retry {
		return c
	}
	return nil
}

// heal repairs the network and starts all that is down.
func (s *sim) heal() {
	s.net.mu.Lock()
	clear(s.net.cut)
	s.net.loss, s.net.twice, s.net.delay = 0, 0, 2*time.Millisecond
	s.net.mu.Unlock()
	for _, n := range s.nodes {
		if n.life == nil {
			s.start(n, true)
		}
	}
}

// converge heals everything: the cluster accepts a write, and all get one state.
func (s *sim) converge() bool {
	s.heal()
	s.settle()
	before := s.acks()
	return s.await("writes after everything was healed", 2*time.Minute, func() bool { return s.acks() > before+3 }) &&
		s.await("all in one state", 5*time.Minute, func() bool {
			at, digest := s.live()[0].life.st.Position()
			for _, n := range s.live() {
				if i, d := n.life.st.Position(); i != at || d != digest {
					return false
				}
			}
			return true
		})
}

func (s *sim) acks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count["acknowledged"]
}

// finish stops everything and compares the whole history with the clients' responses.
func (s *sim) finish() []string {
	close(s.stop)
	for _, n := range s.live() {
		s.halt(n)
	}
	s.wg.Wait()
	s.net.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for service, v := range s.versions {
		for i := uint64(1); i <= uint64(len(v)); i++ {
			if v[i] == "" {
				s.wrong("version %d of %s is missing of %d", i, service, len(v))
			}
		}
		if s.newest[service] > uint64(len(v)) {
			s.wrong("version %d of %s was acknowledged, and there are %d", s.newest[service], service, len(v))
		}
	}
	return s.problems
}

func (s *sim) report() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for k, v := range s.count {
		out = append(out, fmt.Sprintf("%s %d", k, v))
	}
	for k, v := range s.net.count {
		out = append(out, fmt.Sprintf("(%s) %d", k, v))
	}
	sort.Strings(out)
	return fmt.Sprintf("%d terms, %s", len(s.net.leaders), strings.Join(out, ", "))
}
