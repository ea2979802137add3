package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// model is the state of one service as the explicit-state model of the protocol has it: a
// content is a number, gen counts the signings. Its function apply is that of the model.
type model struct {
	epoch          int
	version, floor uint64
	content, gen   int
	ro             *modelRollout
	held           *modelVersion
}

type modelVersion struct {
	version      uint64
	content, gen int
}

type modelRollout struct {
	candidate, revert modelVersion
	step              int
	paused            bool
}

// modelCommand is a command of the model. prev and version are of an edit or a start,
// candidate and step name a rollout.
type modelCommand struct {
	kind           string
	epoch          int
	prev, version  uint64
	content        int
	replace, force bool
	candidate      uint64
	step           int
}

const modelLast = 2 // the last step

// apply returns the next state; false: the command is refused, or changes nothing.
func (m model) apply(c modelCommand, gen int) (model, bool) {
	if c.kind == "epoch" {
		floor := m.floor
		return model{epoch: c.epoch, version: floor + 1, floor: floor + 1, content: m.content, gen: gen}, true
	}
	if c.epoch != m.epoch {
		return m, false
	}
	switch c.kind {
	case "edit":
		if c.prev != m.version || c.version != m.floor+1 || m.ro != nil && !c.replace {
			return m, false
		}
		if c.content != m.content && m.held != nil && c.version > m.held.version {
			m.held = nil // stays for the same content, which the model's edits never have
		}
		m.version, m.content, m.gen, m.floor, m.ro = c.version, c.content, gen, c.version, nil
		return m, true
	case "start":
		if m.ro != nil || c.prev != m.version || c.version != m.floor+1 {
			return m, false
		}
		m.ro = &modelRollout{candidate: modelVersion{c.version, c.content, gen}, revert: modelVersion{c.version + 1, m.content, gen}}
		m.floor = c.version + 1
		return m, true
	case "reissue":
		m.gen = gen
		if m.ro != nil {
			ro := *m.ro
			ro.candidate.gen, ro.revert.gen = gen, gen
			m.ro = &ro
		}
		if m.held != nil {
			m.held = &modelVersion{m.held.version, m.held.content, gen}
		}
		return m, true
	}
	if m.ro == nil || c.candidate != m.ro.candidate.version {
		return m, false
	}
	ro := *m.ro
	switch c.kind {
	case conf.RolloutAdvance:
		if c.step != ro.step || ro.paused || ro.step >= modelLast {
			return m, false
		}
		ro.step++
		m.ro = &ro
		return m, true
	case conf.RolloutPromote:
		if c.step != ro.step || ro.paused && !c.force {
			return m, false
		}
		m.version, m.content, m.gen, m.ro, m.held = ro.candidate.version, ro.candidate.content, ro.candidate.gen, nil, &ro.revert
		return m, true
	case conf.RolloutRollback:
		m.version, m.content, m.gen, m.ro = ro.revert.version, ro.revert.content, ro.revert.gen, nil
		return m, true
	}
	was := ro.paused
	ro.paused = c.kind == conf.RolloutPause
	m.ro = &ro
	return m, was != ro.paused
}

func (v modelVersion) signature() string { return fmt.Sprintf("c2ln%dx%d", v.version, v.gen) }

func modelDoc(content int) string { return fmt.Sprintf(`{"x":%d}`, content) }

func modelEpoch(n int) string { return fmt.Sprintf("epoch-%d", n) }

func (v modelVersion) signed() conf.SignedVersion {
	s := signedVersion(v.version, modelDoc(v.content))
	s.Signature, s.IssuedAt, s.VersionSignature = v.signature(), modelTime(v.gen), ""
	return s
}

// modelTime grows with the signings.
func modelTime(gen int) string { return at(gen) }

// modelStory makes commands, many of them late, repeated or made for another state, and
// tells what the model makes of each. one runs each command: it must give the same.
func modelStory(t *testing.T, rng *rand.Rand, n int, one func(m model, c modelCommand, cmds []command.Command, next model, changed bool)) {
	t.Helper()
	m := model{epoch: 1, version: 1, floor: 1, content: 1}
	content, gen, service := 1, 1, "a"
	var ids []string // of rollouts, by number
	known := map[string]uint64{}
	runs := "" // the last one that was started
	for i := range n {
		gen++
		c := modelCommand{epoch: m.epoch, prev: m.version, version: m.floor + 1, content: content + 1, replace: rng.IntN(2) == 0, force: rng.IntN(2) == 0}
		late := func(v uint64) uint64 { return max(v+uint64(rng.IntN(3)), 1) - 1 } // or one less, or more
		if rng.IntN(4) == 0 {
			c.prev = late(c.prev)
		}
		if rng.IntN(4) == 0 {
			c.version = late(c.version)
		}
		if rng.IntN(8) == 0 {
			c.content = m.content
		}
		if rng.IntN(20) == 0 && m.epoch > 1 {
			c.epoch--
		}
		id := "a-0-none"
		if len(ids) > 0 {
			id = ids[max(len(ids)-1-rng.IntN(2)*rng.IntN(2), 0)]
			if rng.IntN(4) > 0 && runs != "" {
				id = runs
			}
			c.candidate = known[id]
		}
		if m.ro != nil {
			c.step = m.ro.step
		}
		if rng.IntN(4) == 0 {
			c.step = rng.IntN(modelLast + 1)
		}
		kinds := []string{
			"edit", "start", "start", "start", "reissue", conf.RolloutAdvance, conf.RolloutAdvance, conf.RolloutPromote, conf.RolloutPromote, conf.RolloutRollback,
			conf.RolloutPause, conf.RolloutResume, "edit", "epoch",
		}
		c.kind = kinds[rng.IntN(len(kinds))]
		now := at(i)
		var cmds []command.Command
		signed := modelVersion{c.version, c.content, gen}.signed()
		switch c.kind {
		case "edit":
			u := put(service, c.prev, modelDoc(c.content))
			u.Version, u.Signature, u.IssuedAt = c.version, signed.Signature, signed.IssuedAt
			cmds = []command.Command{&command.Edit{Epoch: modelEpoch(c.epoch), At: now, By: "ann", Action: command.ActionPut, Updates: []command.Update{u}, Replace: c.replace}}
		case "start":
			if c.version <= c.prev {
				continue // is not encoded
			}
			id = fmt.Sprintf("a-%d-%06x", c.version, i)
			ids = append(ids, id)
			known[id] = c.version
			cmds = []command.Command{&command.Rollout{
				Epoch: modelEpoch(c.epoch), At: now, By: "ann", Action: command.RolloutStart, Service: service, Rollout: id, Candidate: c.version,
				Target: &conf.Target{Below: 1}, Begin: &command.RolloutBegin{
					Prev: c.prev, Candidate: signed, Revert: modelVersion{c.version + 1, m.content, gen}.signed(), Salt: "s",
					Plan: conf.RolloutPlan{Steps: make([]conf.RolloutStep, modelLast+1), Deadline: "1m0s", Require: "auto", OnLost: "pause"},
				},
			}}
		case "reissue":
			it := command.ReissueItem{Service: service, Version: m.version, Signature: modelVersion{m.version, 0, gen}.signature()}
			add := func(v modelVersion) {
				it.Staged = append(it.Staged, command.StagedItem{Version: v.version, IssuedAt: modelTime(gen), Signature: modelVersion{v.version, 0, gen}.signature()})
			}
			if m.ro != nil {
				add(m.ro.candidate)
				add(m.ro.revert)
			}
			if m.held != nil {
				add(*m.held)
			}
			cmds = []command.Command{&command.Reissue{Epoch: modelEpoch(c.epoch), At: modelTime(gen), KeyID: "0011223344556677", Items: []command.ReissueItem{it}}}
		case "epoch":
			if rng.IntN(4) > 0 {
				continue
			}
			c.epoch = m.epoch + 1
			u := put(service, m.version, modelDoc(m.content))
			u.Version, u.Signature, u.IssuedAt = m.floor+1, modelVersion{m.floor + 1, 0, gen}.signature(), modelTime(gen)
			cmds = []command.Command{
				&command.Genesis{Epoch: modelEpoch(c.epoch), At: now, Keep: true},
				&command.Edit{Epoch: modelEpoch(c.epoch), At: now, Action: command.ActionRebuild, Updates: []command.Update{u}},
			}
		default:
			if c.candidate == 0 {
				continue
			}
			r := &command.Rollout{Epoch: modelEpoch(c.epoch), At: now, By: "bob", Action: c.kind, Service: service, Rollout: id, Candidate: c.candidate}
			switch c.kind {
			case conf.RolloutAdvance:
				r.Step, r.Target = c.step, &conf.Target{Below: uint64(i)}
			case conf.RolloutPromote:
				r.Step, r.Force = c.step, c.force
			}
			cmds = []command.Command{r}
			// Candidates of two epochs may have one number; the id of a rollout is its own.
			if m.ro != nil && runs != id && c.candidate == m.ro.candidate.version {
				continue
			}
		}
		next, changed := m.apply(c, gen)
		if changed && (c.kind == "edit" || c.kind == "start") {
			content = c.content
		}
		if changed && c.kind == "start" {
			runs = id
		}
		one(m, c, cmds, next, changed)
		m = next
	}
}

// check compares the record of the service with the state of the model.
func (m model) check(t *testing.T, what string, rec *conf.Record) {
	t.Helper()
	fail := func(format string, args ...any) { t.Helper(); t.Fatalf(what+": "+format, args...) }
	if rec.Epoch != modelEpoch(m.epoch) || rec.Version != m.version || string(rec.Config) != modelDoc(m.content) || rec.Floor() != m.floor ||
		rec.Signature != (modelVersion{m.version, 0, m.gen}).signature() {
		fail("record %+v (floor %d), model %+v", rec, rec.Floor(), m)
	}
	like := func(what string, v *conf.SignedVersion, want modelVersion) {
		t.Helper()
		if v == nil || v.Version != want.version || string(v.Config) != modelDoc(want.content) || v.Signature != want.signature() {
			fail("%s: %+v, model %+v", what, v, want)
		}
	}
	st := rec.Staged
	if st == nil {
		st = &conf.Staged{}
	}
	if (st.Rollout != nil) != (m.ro != nil) || (st.Kept != nil) != (m.held != nil) {
		fail("staged %+v, model %+v", st, m)
	}
	if m.ro != nil {
		like("candidate", &st.Rollout.Candidate, m.ro.candidate)
		like("revert", &st.Rollout.Revert, m.ro.revert)
		if st.Rollout.Step != m.ro.step || (st.Rollout.Paused != "") != m.ro.paused || len(st.Rollout.Targets) != m.ro.step+1 {
			fail("rollout %+v, model %+v", st.Rollout, m.ro)
		}
	}
	if m.held != nil {
		like("kept", st.Kept, *m.held)
	}
}

// The store decides as the model does, whatever the order of the commands; one version of
// an epoch never has two contents; and nodes that batch in other ways, or start from a
// snapshot in the middle of a rollout, come to the same.
func TestRolloutsFollowTheModel(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 14))
		one := newDriver(t, openNew(t))
		batched, restored := newDriver(t, openNew(t)), newDriver(t, openNew(t))
		begin := []command.Command{&command.Genesis{Epoch: modelEpoch(1), At: at(0), Keep: true}, first()}
		for _, d := range []*driver{one, batched, restored} {
			d.apply(begin...)
		}
		contents := map[[2]uint64]int{}
		var waiting []command.Command
		flush := func() {
			batched.apply(waiting...)
			restored.apply(waiting...)
			waiting = nil
			if rng.IntN(4) == 0 {
				restored = restored.overSnapshot(t)
			}
			for name, d := range map[string]*driver{"batched": batched, "restored": restored} {
				if d.s.Digest() != one.s.Digest() {
					t.Fatalf("seed %d: %s: another digest", seed, name)
				}
				same(t, name, records(t, one.s), records(t, d.s))
			}
		}
		modelStory(t, rng, 250, func(m model, c modelCommand, cmds []command.Command, next model, changed bool) {
			what := fmt.Sprintf("seed %d, %+v on %+v (rollout %+v)", seed, c, m, m.ro)
			before := one.s.Digest()
			res, recs := one.apply(cmds...)
			last := res[len(res)-1]
			refused := last.Err != nil
			switch c.kind {
			case conf.RolloutPause, conf.RolloutResume: // a second one changes nothing, and is fine
				if refused && changed || !refused && !changed && one.s.Digest() != before {
					t.Fatalf("%s: %v, the model changes: %t", what, last.Err, changed)
				}
			default:
				if refused == changed {
					t.Fatalf("%s: %v, the model changes: %t", what, last.Err, changed)
				}
			}
			if refused && one.s.Digest() != before {
				t.Fatalf("%s: refused, and the digest changed", what)
			}
			if changed {
				seen[c.kind]++
				next.check(t, what, recs[len(recs)-1])
			} else {
				seen["no "+c.kind]++
			}
			next.check(t, what, one.record("a"))
			for _, v := range next.given() {
				k := [2]uint64{uint64(next.epoch), v.version}
				if was, ok := contents[k]; ok && was != v.content {
					t.Fatalf("%s: version %d has the contents %d and %d", what, v.version, was, v.content)
				}
				contents[k] = v.content
			}
			if waiting = append(waiting, cmds...); rng.IntN(6) == 0 {
				flush()
			}
		})
		flush()
		for _, d := range []*driver{one, batched, restored} {
			if err := d.s.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, kind := range []string{
		"edit", "start", "reissue", "epoch", conf.RolloutAdvance, conf.RolloutPromote, conf.RolloutRollback, conf.RolloutPause, conf.RolloutResume,
		"no edit", "no start", "no " + conf.RolloutAdvance, "no " + conf.RolloutPromote, "no " + conf.RolloutRollback,
	} {
		if seen[kind] < 10 {
			t.Errorf("%s happened %d times only: %v", kind, seen[kind], seen)
		}
	}
}

// given are the versions that the state has.
func (m model) given() []modelVersion {
	out := []modelVersion{{m.version, m.content, 0}}
	if m.ro != nil {
		out = append(out, m.ro.candidate, m.ro.revert)
	}
	if m.held != nil {
		out = append(out, *m.held)
	}
	return out
}

// first is the first version of the service.
func first() *command.Edit {
	u := put("a", 0, modelDoc(1))
	u.Signature = modelVersion{1, 1, 0}.signature()
	return &command.Edit{Epoch: modelEpoch(1), At: at(0), Action: command.ActionPut, Updates: []command.Update{u}}
}

// overSnapshot goes on in a new store that is made from a snapshot of this one.
func (d *driver) overSnapshot(t *testing.T) *driver {
	t.Helper()
	sn, err := d.s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	var b bytes.Buffer
	if _, err := sn.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	s := openNew(t)
	if err := s.Restore(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	if s.Digest() != d.s.Digest() {
		t.Fatal("another digest after the snapshot")
	}
	return &driver{tb: d.tb, s: s, index: d.index, clock: d.clock}
}

// A build without the tables of rollouts reads what this one writes until there is a first
// rollout, and this one opens what that build has written.
func TestRolloutTablesComeLater(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(d.edit(command.ActionPut, put("a", 0, `{"x":1}`)))
	stream := func() string {
		sn, err := d.s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer sn.Close()
		var b bytes.Buffer
		if _, err := sn.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	names := []string{"staged", "staged_versions", "rollouts"}
	has := func(what string, want bool) {
		t.Helper()
		for _, name := range names {
			if bytes.Contains([]byte(stream()), []byte(`"table":"`+name+`"`)) != want {
				t.Errorf("%s: the snapshot has %s: %t", what, name, !want)
			}
		}
	}
	has("before", false)
	path, digest := d.s.file.path, d.s.Digest()
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		alter(t, path, "DROP TABLE "+name)
	}
	d.s = openAt(t, path)
	if d.s.Digest() != digest {
		t.Error("the tables changed the digest")
	}
	s := d.start(d.record("a"), `{"x":2}`)
	d.ok(s)
	has("while it runs", true)
	d.ok(d.move(s, conf.RolloutRollback, 0))
	if rec := d.record("a"); rec.Staged != nil || rec.Version != 3 {
		t.Errorf("%+v", rec)
	}
}
