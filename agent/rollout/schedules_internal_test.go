package rollout

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

var (
	schedules = flag.Int("schedules", 60, "how many random schedules TestSchedules runs")
	firstSeed = flag.Uint64("seed", 0, "of the first one; 0 makes one")
)

const simService = "stt"

var errLost = conf.Errorf(conf.CodeOutcomeUnknown, "the answer was lost")

// world is a service with its instances, of real parts: the store, the editor, the
// controller, what each agent serves with its files, and the table of reports. The log is
// simulated: proposals stay in flight, leaders change and take some of them along, agents
// apply late, lose power, reports come late and again.
//
// It checks in each state that a version has one content, that no instance goes back, that
// readers of stable see nothing else, that only targets serve a candidate, that what was
// refused is not served again, and that nothing goes on against a refusal or without an
// approval. When all is quiet, everybody is on the newest, or held back.
type world struct {
	t   *testing.T
	ctx context.Context
	r   *rand.Rand
	dir string
	now time.Time

	st     *store.Store
	cache  *schema.Cache
	signer *seal.Signer
	index  uint64
	term   uint64
	states []state // after each entry
	flight []command.Command
	quorum bool

	view    *documents.View // the leader's
	table   *instances.Table
	manager *Manager
	editor  *edit.Editor
	nodes   []*simNode

	contents   map[string]string // version -> document
	everStable map[string]bool   // documents
	told       map[string]bool   // "rollout/instance": its refusal reached a leader
	approved   map[string]bool   // "rollout/instance": it served the candidate, and its service was content
	next       int               // of the next content
	count      map[string]int
	trace      []string
}

// state is the record of the service after an entry.
type state struct {
	index uint64
	rec   *conf.Record
}

// simNode is an agent.
type simNode struct {
	*served.Served
	w       *world
	writer  *lkg.Writer
	name    string
	dir     string
	at      int    // its place in states
	most    int    // the highest place that it ever had
	joined  uint64 // the index at which it joined with an empty directory
	cut     bool   // from the others
	hi      uint64
	refused map[string]bool // documents
	status  map[uint64]conf.InstanceStatus
	seq     uint64
	boot    int
	mail    []conf.Report // that is under way
}

// in says where something happened.
func (w *world) in(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trace[max(0, len(w.trace)-60):] {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-schedules-") // in memory: it takes no real time
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{
		t: t, ctx: t.Context(), r: rand.New(rand.NewPCG(seed, 1)), dir: dir, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), cache: schema.NewCache(), quorum: true,
		view: documents.NewStableView(), contents: map[string]string{}, everStable: map[string]bool{}, told: map[string]bool{}, approved: map[string]bool{}, count: map[string]int{},
	}
	log := slog.New(slog.DiscardHandler)
	if w.st, err = store.Open(w.ctx, schemas.StoreOptions(filepath.Join(dir, "config.db"), w.cache, log)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.st.Close() })
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.signer = seal.NewSigner(private)
	w.lead()
	if _, err := w.Propose(w.ctx, &command.Genesis{Epoch: "2d7a2a66-9f0c-4a0e-8d38-5f1c8a3c1f10", At: conf.FormatTime(w.now)}); err != nil {
		t.Fatal(err)
	}
	alice := conf.Principal{Name: "alice", Role: conf.RoleWrite}
	w.must(w.editor.PutSchemas(w.ctx, alice, map[string][]byte{simService: []byte(`{"type":"object","properties":{"content":{"type":"integer","default":0}}}`)}, "", ""))
	for i := range n {
		nd := &simNode{w: w, name: fmt.Sprintf("i%d", i), dir: filepath.Join(dir, fmt.Sprintf("i%d", i)), refused: map[string]bool{}, status: map[uint64]conf.InstanceStatus{}}
		if err := os.MkdirAll(nd.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, nd)
		nd.start()
		nd.reset(len(w.states)-1, true)
	}
	return w
}

func (w *world) must(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.fatal("%v", err)
	}
}

// lead makes the leader of a new term. What was in flight survives up to some entry.
func (w *world) lead() {
	survive := 0
	if len(w.flight) > 0 {
		survive = w.r.IntN(len(w.flight) + 1)
	}
	w.flight = w.flight[:survive]
	w.commit()
	w.term++
	log := slog.New(slog.DiscardHandler)
	w.editor = edit.New(edit.Options{
		Proposer: w, Records: documents.Records{View: w.view}, Archive: w.st.Queries, Schemas: w.cache, Signer: func() *seal.Signer { return w.signer },
		Ready: func() error { return nil }, Now: func() time.Time { w.now = w.now.Add(time.Millisecond); return w.now },
		CanSignVersions: func() bool { return true }, Confirm: w.confirm,
	})
	w.table = instances.New(func() time.Time { return w.now })
	w.table.Begin(w.term)
	w.manager = New(Options{
		View: w.view, Reports: w.table, Editor: w.editor, History: w.st.Queries, Now: func() time.Time { return w.now }, Logger: log,
		Members: func(string) (out []string) {
			for _, n := range w.nodes {
				out = append(out, n.name)
			}
			return out
		},
		Confirm: w.confirm, Settle: time.Second, Heartbeat: 10 * time.Second,
	})
	w.manager.begin(w.term)
}

// confirm is a barrier.
func (w *world) confirm(context.Context) error {
	if !w.quorum {
		return conf.Errorf(conf.CodeNoQuorum, "no quorum")
	}
	w.commit()
	return nil
}

// Propose implements edit.Proposer: the outcome may stay unknown, and the entry in flight.
func (w *world) Propose(_ context.Context, c command.Command) (command.Result, error) {
	w.check(c)
	raw, err := command.Encode(c)
	if err != nil {
		return command.Result{}, err
	}
	back, err := command.Decode(raw)
	if err != nil {
		return command.Result{}, err
	}
	w.flight = append(w.flight, back)
	if !w.quorum || w.r.IntN(8) == 0 && len(w.states) > 1 {
		w.count["unknown outcomes"]++
		return command.Result{}, errLost
	}
	return w.commit(), nil
}

// commit applies what is in flight, and returns the last result.
func (w *world) commit() (last command.Result) {
	for _, c := range w.flight {
		w.index++
		step := -1
		if len(w.states) > 0 && w.running() != nil {
			step = w.running().Step
		}
		res, recs, err := w.st.Apply(w.ctx, []store.Entry{{Index: w.index, Term: w.term, Command: c}})
		if err != nil {
			w.fatal("apply: %v", err)
		}
		last = res[0]
		w.view.Advance(w.index, recs)
		if len(w.states) == 0 && w.st.Epoch() != "" {
			w.view.Reset("replica", w.st.Epoch(), w.index, nil)
		}
		if ro, ok := c.(*command.Rollout); ok {
			w.in("%d: %s %s of step %d by %q: %v", w.index, ro.Action, ro.Rollout, ro.Step, ro.By, res[0].Err)
			if res[0].Err == nil {
				w.count[ro.Action]++
				if (ro.Action == conf.RolloutAdvance || ro.Action == conf.RolloutPromote) && ro.Step != step {
					w.fatal("what was decided at step %d took effect at step %d", ro.Step, step)
				}
			}
		}
		for _, rec := range recs {
			w.given(rec)
			w.states = append(w.states, state{w.index, rec})
		}
	}
	w.flight = nil
	return last
}

// given notes the versions that a record gives out.
func (w *world) given(rec *conf.Record) {
	note := func(version uint64, config json.RawMessage) {
		key := fmt.Sprint(version)
		if was, known := w.contents[key]; known && was != string(config) {
			w.fatal("version %d has two contents: %s and %s", version, was, config)
		}
		w.contents[key] = string(config)
	}
	note(rec.Version, rec.Config)
	for v := range rec.Staged.Signed() {
		note(v.Version, v.Config)
	}
	if n := len(w.states); n > 0 && rec.Version < w.states[n-1].rec.Version {
		w.fatal("stable goes back from %d to %d", w.states[n-1].rec.Version, rec.Version)
	}
	w.everStable[string(rec.Config)] = true
}

// check holds the decisions of the controller against what it was told.
func (w *world) check(c command.Command) {
	ro, ok := c.(*command.Rollout)
	if !ok || ro.By != byController || ro.Action != conf.RolloutAdvance && ro.Action != conf.RolloutPromote {
		return
	}
	someone := false
	for _, n := range w.nodes {
		if w.told[ro.Rollout+"/"+n.name] {
			for _, h := range w.table.Of(simService) {
				w.in("heard %s: version %d %s, refused %d, term %d, lost %t, joined %d", h.Instance, h.Version, h.Status, h.Refused, h.Term, h.Lost, h.Joined)
			}
			w.in("targets %+v, step index %d, %s", w.running().Targets, w.running().StepIdx, ro.Reason)
			w.fatal("the leader decides to %s although %s had refused and said so", ro.Action, n.name)
		}
		someone = someone || w.approved[ro.Rollout+"/"+n.name]
	}
	if !someone {
		w.fatal("the leader decides to %s although nobody approved", ro.Action)
	}
}

// rec is the record as the leader has it.
func (w *world) rec() *conf.Record { return w.states[len(w.states)-1].rec }

func (w *world) running() *conf.Rollout {
	if s := w.rec().Staged; s != nil {
		return s.Rollout
	}
	return nil
}

// start begins the life of the process of an agent, by its files.
func (n *simNode) start() {
	log := slog.New(slog.DiscardHandler)
	key := []byte("0123456789abcdef0123456789abcdef")
	n.boot++
	n.status = map[uint64]conf.InstanceStatus{}
	n.Served = served.New(served.Options{
		Instance: func() string { return n.name }, Services: []string{simService}, Dir: filepath.Join(n.dir, "marks"),
		Keys: func() [][]byte { return [][]byte{key} }, Logger: log,
		Views: served.Views{Served: documents.NewStableView(), Stable: documents.NewStableView()},
	})
	path := filepath.Join(n.dir, "config.lkg.json")
	loaded, err := lkg.Load(path, key)
	epoch, past := "", []string(nil)
	if err == nil {
		n.Restore(loaded)
		epoch, past = loaded.Epoch, loaded.PastEpochs
	} else if conf.CodeOf(err) != conf.CodeNotFound {
		n.w.fatal("%s: the file: %v", n.name, err)
	}
	provider := documents.NewLKGProvider(n.Snapshot, epoch, past, nil)
	n.writer = lkg.NewWriter(path, key, provider, log, lkg.WriterOptions{Loaded: loaded})
	n.Attach(n.writer, provider.Past)
	n.look("a start")
}

// reset is the store of an agent that was opened, with what is at a place of the log.
func (n *simNode) reset(at int, caughtUp bool) {
	n.at = at
	s := n.w.states[at]
	n.Reset("replica", s.rec.Epoch, s.index, []*conf.Record{s.rec}, caughtUp)
	n.look("a reset")
	if err := n.writer.Flush(n.w.ctx); err != nil { // as once a replica is up
		n.w.fatal("%s: the file: %v", n.name, err)
	}
}

// look checks what an agent serves.
func (n *simNode) look(after string) {
	w := n.w
	if e, ok := n.Views().Stable.Get(simService); ok && e.Record.Config != nil && !w.everStable[string(e.Record.Config)] {
		w.fatal("a reader of stable sees version %d at %s after %s", e.Record.Version, n.name, after)
	}
	st := n.State(simService)
	if st.Record == nil {
		return
	}
	v, config := st.Record.Version, string(st.Record.Config)
	if v < n.hi {
		w.fatal("%s goes back from version %d to %d after %s", n.name, n.hi, v, after)
	}
	if known, ok := w.contents[fmt.Sprint(v)]; ok && known != config {
		w.fatal("%s serves %s as version %d, which is %s", n.name, config, v, known)
	}
	if n.refused[config] {
		w.fatal("%s serves version %d again, %s, which its service refused, after %s", n.name, v, config, after)
	}
	if v > n.hi {
		n.hi = v
		n.status[v] = conf.InstanceReceived
		if !w.everStable[config] {
			w.count["candidates served"]++
			ro := w.states[n.at].rec.Staged.Rollout
			if ro != nil && n.joined >= ro.StepIdx {
				w.fatal("%s joined during the step and serves its candidate %d, after %s", n.name, v, after)
			}
			if ro == nil || ro.Candidate.Version != v || !served.Chosen(ro, n.name, nil, st.Joined) {
				w.fatal("%s serves the candidate %d and is no target, after %s", n.name, v, after)
			}
			if ro.Plan.Require == conf.RequireReceived {
				w.approved[ro.ID+"/"+n.name] = true
			}
		}
	}
}

// isBad reports whether the service beside an agent cannot run with a document.
func (n *simNode) isBad(config string) bool {
	var doc struct{ Content int }
	_ = json.Unmarshal([]byte(config), &doc)
	return doc.Content%3 == 1 && (doc.Content/3+int(n.name[1]))%2 == 0
}

// service is the service beside an agent: it reads, is content, or refuses.
func (n *simNode) service() {
	w, st := n.w, n.State(simService)
	if st.Record == nil {
		return
	}
	v, config := st.Record.Version, string(st.Record.Config)
	if n.isBad(config) && st.CanRefuse {
		if err := n.Refuse(w.ctx, simService, st.Record.Epoch, v, served.Verdict{Reason: "no", Cause: served.CauseAck}); err != nil {
			w.fatal("%s refuses %d: %v", n.name, v, err)
		}
		n.refused[config] = true
		w.count["refusals"]++
		w.in("%s refuses %d", n.name, v)
		n.look("a refusal")
		return
	}
	if !n.isBad(config) {
		n.status[v] = conf.InstanceApplied
		if st.Candidate {
			w.approved[st.Rollout+"/"+n.name] = true
		}
	}
}

// report makes a report for the leader of a term.
func (n *simNode) report() {
	st := n.State(simService)
	if st.Record == nil {
		return
	}
	n.seq++
	r := conf.Report{
		Instance: n.name, Node: n.name, Service: simService, Epoch: st.Record.Epoch, Version: st.Record.Version, Status: n.status[st.Record.Version],
		Since: conf.FormatTime(n.w.now), Joined: st.Joined, Acknowledges: true,
	}
	if r.Status == "" {
		r.Status = conf.InstanceReceived
	}
	r.Term, r.Seq, r.Boot = n.w.term, n.seq, fmt.Sprint(n.boot)
	if st.Mark != nil {
		r.Refused, r.Revert, r.Reason = st.Mark.Refused, st.Mark.Revert.Version, st.Mark.Verdict.Reason
	}
	n.mail = append(n.mail, r)
}

// deliver brings one of the reports that are under way, maybe again.
func (n *simNode) deliver() {
	if len(n.mail) == 0 {
		return
	}
	i := n.w.r.IntN(len(n.mail))
	r := n.mail[i]
	if n.w.r.IntN(4) > 0 {
		n.mail = append(n.mail[:i], n.mail[i+1:]...)
	}
	if err := n.w.table.Hear(instances.KindMember, &r); err != nil {
		n.w.fatal("%v", err)
	}
	if ro := n.w.running(); ro != nil && r.Refused == ro.Candidate.Version && r.Term == n.w.term {
		n.w.told[ro.ID+"/"+n.name] = true
	}
}

// catchUp applies some of the log.
func (n *simNode) catchUp(most int) {
	for range most {
		if n.at+1 >= len(n.w.states) {
			return
		}
		n.at++
		s := n.w.states[n.at]
		n.Advance(s.index, []*conf.Record{s.rec})
		n.look(fmt.Sprintf("entry %d", s.index))
	}
}

// crash is a kill; with power the database falls back, and with loss the file is gone.
func (n *simNode) crash(power, loss bool) {
	w := n.w
	w.count["crashes"]++
	w.in("%s crashes (power %t, file lost %t)", n.name, power, loss)
	n.most = max(n.most, n.at)
	loss = loss && n.at == n.most // a file and a database that are both lost are a loss of the directory
	if loss {
		_ = os.Remove(filepath.Join(n.dir, "config.lkg.json"))
		_ = os.Remove(filepath.Join(n.dir, "config.lkg.journal"))
		power = false
	}
	at := n.at
	if power {
		at = w.r.IntN(n.at + 1)
	}
	n.start()
	n.reset(at, false)
}

// wipe is the loss of the directory: the agent joins again under its name.
func (n *simNode) wipe() {
	w := n.w
	w.count["wipes"]++
	w.in("%s loses its directory", n.name)
	n.dir += "x"
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		w.fatal("%v", err)
	}
	n.hi, n.refused, n.mail, n.joined = 0, map[string]bool{}, nil, w.states[len(w.states)-1].index
	n.most = len(w.states) - 1
	for key := range w.told { // nobody knows any more
		if strings.HasSuffix(key, "/"+n.name) {
			delete(w.told, key)
		}
	}
	n.start()
	n.reset(len(w.states)-1, true)
}

// step is one event.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.r.IntN(400)) * time.Millisecond)
	n := w.nodes[w.r.IntN(len(w.nodes))]
	alice := conf.Principal{Name: "alice", Role: conf.RoleWrite}
	switch k := w.r.IntN(100); {
	case k < 25:
		if !n.cut {
			n.catchUp(1 + w.r.IntN(3))
		}
	case k < 40:
		n.service()
	case k < 56:
		n.report()
		if !n.cut && w.r.IntN(3) > 0 {
			n.deliver()
		}
	case k < 62:
		if !n.cut {
			n.deliver()
		}
	case k < 81:
		w.manager.Step(w.ctx)
	case k < 86:
		w.startRollout()
	case k < 87:
		mode := []string{"", conf.RolloutReplace}[w.r.IntN(2)]
		_, err := w.editor.Do(w.ctx, alice, conf.Draft{Service: simService, Op: conf.OpPatch, Document: w.content(), Rollout: mode})
		w.in("edit %q: %v", mode, err)
		if mode == "" && err == nil && w.running() != nil {
			w.fatal("an edit was made while a rollout runs")
		}
	case k < 89:
		if w.r.IntN(2) == 0 {
			w.byHand()
		}
	case k < 91:
		n.crash(w.r.IntN(2) == 0, w.r.IntN(4) == 0)
	case k < 92 && w.r.IntN(4) == 0:
		n.wipe()
	case k < 93:
		n.cut = !n.cut && w.r.IntN(2) == 0
	case k < 94:
		w.count["leaders"]++
		w.lead()
		w.in("term %d", w.term)
	case k < 95:
		w.quorum = !w.quorum
		if w.quorum {
			w.commit()
		}
	default:
		w.now = w.now.Add(time.Duration(w.r.IntN(6)) * time.Second)
	}
}

func (w *world) content() []byte {
	w.next++
	return fmt.Appendf(nil, `{"content":%d}`, w.next)
}

func (w *world) startRollout() {
	if w.running() != nil || !w.quorum {
		return
	}
	w.now = w.now.Add(time.Second) // a leader of a new term waits that long
	steps := [][]conf.RolloutStep{{{Count: 1, Bake: "1s"}}, {{Count: 1, Bake: "1s"}, {Percent: 50, Bake: "1s"}}, {{Percent: 100}}}[w.r.IntN(3)]
	info, err := w.manager.Start(w.ctx, conf.RolloutDraft{
		Draft: conf.Draft{Service: simService, Op: conf.OpPatch, Document: w.content(), Author: "alice"},
		Plan:  conf.RolloutPlan{Steps: steps, FinalBake: "1s", Deadline: "15s", Require: []string{"auto", "read", "received"}[w.r.IntN(3)]},
	})
	w.in("start %s: %v", info.ID, err)
}

func (w *world) byHand() {
	ro := w.running()
	if ro == nil {
		return
	}
	action := []string{conf.RolloutPause, conf.RolloutResume, conf.RolloutRollback, conf.RolloutPromote}[w.r.IntN(4)]
	_, err := w.manager.Move(w.ctx, conf.RolloutMove{ID: ro.ID, Action: action, By: "alice"})
	w.in("%s by hand: %v", action, err)
}

// settle brings everything to rest, and checks that all are on the newest, or held back.
func (w *world) settle() {
	w.quorum = true
	w.commit()
	if ro := w.running(); ro != nil {
		if _, err := w.manager.Move(w.ctx, conf.RolloutMove{ID: ro.ID, Action: conf.RolloutRollback, By: "alice"}); err != nil && err != error(errLost) {
			w.fatal("abort: %v", err)
		}
		w.commit()
	}
	if w.running() != nil {
		w.fatal("the rollout does not end")
	}
	held := 0
	quiet := func(mayHold bool) {
		for _, n := range w.nodes {
			n.cut = false
			n.catchUp(len(w.states))
			n.service()
			n.catchUp(len(w.states))
			st, rec := n.State(simService), w.rec()
			if st.Record.Version == rec.Version && string(st.Record.Config) == string(rec.Config) {
				continue
			}
			if !mayHold || st.Mark == nil || st.Record.Version != st.Mark.Revert.Version || !n.refused[w.contents[fmt.Sprint(st.Mark.Refused)]] {
				w.fatal("when all is quiet %s serves version %d, stable is %d", n.name, st.Record.Version, rec.Version)
			}
			held++
		}
	}
	quiet(true)
	w.count["held back at the end"] += held
	_, err := w.editor.Do(w.ctx, conf.Principal{Name: "alice", Role: conf.RoleWrite}, conf.Draft{Service: simService, Op: conf.OpPatch, Document: []byte(`{"content":1000000}`)})
	if err != nil && err != error(errLost) {
		w.fatal("the next edit: %v", err)
	}
	w.commit()
	quiet(false)
}

// TestSchedules runs random schedules: go test ./agent/rollout -run TestSchedules -schedules 500.
func TestSchedules(t *testing.T) {
	t.Parallel()
	first := *firstSeed
	if first == 0 {
		first = rand.Uint64()>>16 + 1
	}
	total := map[string]int{}
	for i := range *schedules {
		seed := first + uint64(i) //nolint:gosec // small
		w := newWorld(t, seed, 2+int(seed%4))
		w.in("seed %d", seed)
		for range 600 {
			w.step()
		}
		w.settle()
		for k, v := range w.count {
			total[k] += v
		}
		_ = w.st.Close()
		_ = os.RemoveAll(w.dir)
	}
	t.Logf("%d schedules from seed %d: %v", *schedules, first, total)
	for _, what := range []string{command.RolloutStart, conf.RolloutAdvance, conf.RolloutPromote, conf.RolloutRollback, "refusals", "unknown outcomes", "leaders", "crashes", "wipes"} {
		if total[what] == 0 {
			t.Errorf("there was no %s: the schedules show nothing", what)
		}
	}
}
