package rollouttest

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

var (
	faultsFor  = flag.Duration("rollout-faults", 20*time.Second, "how long TestRolloutsUnderFaults breaks a cluster")
	faultsSeed = flag.Uint64("rollout-seed", 0, "of its choices; 0 makes one")
)

// write is a change that somebody wants: each has a value of its own.
type write struct {
	value     string
	call, ret int64  // ret -1: it is not known when, or whether, it took effect
	refused   bool   // for certain
	id        string // of a rollout
}

// read is a consistent read.
type read struct {
	version   uint64
	value     string
	call, ret int64
}

// turmoil is a fleet that is changed and broken at random, and what everybody saw.
type turmoil struct {
	*fleet
	r     *rand.Rand
	began time.Time
	done  map[string]int

	mu     sync.Mutex
	writes []*write
	reads  []read
	stable map[uint64]string // what readers of stable saw
	bad    []string
	next   int
}

func (u *turmoil) now() int64 { return int64(time.Since(u.began)) }

func (u *turmoil) problem(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bad = append(u.bad, fmt.Sprintf(format, args...))
}

// value is one that no other write has.
func (u *turmoil) value() string {
	u.next++
	return strconv.FormatFloat(0.1+float64(u.next)/1e6, 'f', -1, 64)
}

// linger lets things happen.
func (u *turmoil) linger(least, most time.Duration) {
	timer := time.NewTimer(least + rand.N(most-least))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-u.t.Context().Done():
	}
}

// some is a node that runs.
func (u *turmoil) some() *testenv.Node {
	live := u.Live()
	return live[u.r.IntN(len(live))]
}

func (u *turmoil) add(w *write) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.writes = append(u.writes, w)
}

// edit changes the value for all at once.
func (u *turmoil) edit(query string) {
	w := &write{value: u.value(), call: u.now(), ret: -1}
	u.add(w)
	r := u.some().Admin("PATCH", "/api/config/services/"+service+query, `{"vad_threshold":`+w.value+`}`)
	switch {
	case r.Status == http.StatusOK:
		w.ret = u.now()
	case r.Status == http.StatusConflict:
		w.refused = true
	}
}

// begin starts a rollout.
func (u *turmoil) begin() {
	w := &write{value: u.value(), call: u.now(), ret: -1}
	u.add(w)
	body := `{"patch":{"vad_threshold":` + w.value + `},"require":"read","deadline":"4s","final_bake":"300ms","on_lost":"continue","steps":[{"count":1,"bake":"500ms"}]}`
	r := u.some().Admin("POST", "/api/config/services/"+service+"/rollouts", body, "Content-Type: application/json")
	var info conf.RolloutInfo
	switch {
	case r.Status == http.StatusCreated && json.Unmarshal(r.Body, &info) == nil:
		w.id = info.ID
	case r.Status == http.StatusConflict:
		w.refused = true
	}
}

// move decides on a rollout that was begun, the newest as a rule.
func (u *turmoil) move(action string) {
	u.mu.Lock()
	var ids []string
	for _, w := range u.writes {
		if w.id != "" {
			ids = append(ids, w.id)
		}
	}
	u.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	id := ids[len(ids)-1]
	if u.r.IntN(8) == 0 {
		id = ids[u.r.IntN(len(ids))]
	}
	u.some().Admin("POST", "/api/config/rollouts/"+id+"/"+action, "")
}

// refuse has the service of an instance say no to what it was given.
func (u *turmoil) refuse() {
	in := u.all[u.r.IntN(len(u.all))]
	d, err := in.TryDocument(service)
	if err != nil || d.Metadata.Channel != "candidate" {
		return
	}
	token, err := os.ReadFile(in.Path("local-token"))
	if err != nil {
		u.problem("%v", err)
		return
	}
	body := fmt.Sprintf(`{"version":%d,"config_epoch":%q,"status":"rejected","reason":"no"}`, d.Metadata.Version, d.Metadata.Epoch)
	r := testenv.Do("POST", "http://"+in.LocalAddr+"/v1/ack/"+service, body, "X-Holdfast-Token: "+strings.TrimSpace(string(token)), "Content-Type: application/json")
	if r.Status == http.StatusAccepted {
		in.mu.Lock()
		in.refused[d.Metadata.Version] = true
		in.mu.Unlock()
		u.done["refused"]++
	}
}

// consistent reads what is stable, with the word of the leader.
func (u *turmoil) consistent() {
	call := u.now()
	r := u.some().Admin("GET", "/api/config/services/"+service+"?consistent=1", "")
	if version, value, ok := stableOf(r); ok {
		u.mu.Lock()
		u.reads = append(u.reads, read{version, value, call, u.now()})
		u.mu.Unlock()
	}
}

func stableOf(r testenv.Reply) (version uint64, value string, ok bool) {
	var d conf.ReadResponse
	if r.Err != nil || r.Status != http.StatusOK || json.Unmarshal(r.Body, &d) != nil {
		return 0, "", false
	}
	var values struct {
		Vad json.Number `json:"vad_threshold"`
	}
	if json.Unmarshal(d.Config, &values) != nil {
		return 0, "", false
	}
	return d.Metadata.Version, values.Vad.String(), true
}

// look is a reader of stable at one agent.
func (u *turmoil) look(n *testenv.Node) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-u.stop:
			return
		}
		version, value, ok := stableOf(n.Admin("GET", "/api/config/services/"+service, ""))
		if !ok {
			continue
		}
		u.mu.Lock()
		if was, seen := u.stable[version]; seen && was != value {
			u.bad = append(u.bad, fmt.Sprintf("stable version %d is %s and %s", version, was, value))
		}
		u.stable[version] = value
		u.mu.Unlock()
	}
}

// down kills agents, and starts them again after some time.
func (u *turmoil) down(nodes ...*testenv.Node) {
	for _, n := range nodes {
		n.Kill()
	}
	u.linger(100*time.Millisecond, 1500*time.Millisecond)
	for _, n := range nodes {
		n.Start()
	}
	for _, n := range nodes {
		n.AwaitUp()
	}
}

func (u *turmoil) cut(n *testenv.Node) {
	u.Net.Each(testenv.IDs(n), testenv.IDs(u.Except(n)...), (*testenv.Link).Hold)
	u.linger(200*time.Millisecond, 2500*time.Millisecond)
	u.Net.Heal()
}

func (u *turmoil) instance() *testenv.Node { return u.all[u.r.IntN(len(u.all))].Node }

// acts are what happens, each as often as its number says.
var acts = []struct {
	name string
	n    int
	do   func(u *turmoil)
}{
	{"edit", 4, func(u *turmoil) { u.edit("") }},
	{"replace", 1, func(u *turmoil) { u.edit("?rollout=replace") }},
	{"start", 6, (*turmoil).begin},
	{"refuse", 5, (*turmoil).refuse},
	{"promote", 2, func(u *turmoil) { u.move("promote") }},
	{"pause", 1, func(u *turmoil) { u.move("pause") }},
	{"resume", 2, func(u *turmoil) { u.move("resume") }},
	{"abort", 1, func(u *turmoil) { u.move("abort") }},
	{"read", 6, (*turmoil).consistent},
	{"wait", 4, func(u *turmoil) { u.linger(100*time.Millisecond, 1200*time.Millisecond) }},
	{"kill the leader", 1, func(u *turmoil) { u.down(u.Leader()) }},
	{"kill an instance", 1, func(u *turmoil) { u.down(u.instance()) }},
	{"cut off the leader", 1, func(u *turmoil) { u.cut(u.Leader()) }},
	{"cut off an instance", 1, func(u *turmoil) { u.cut(u.instance()) }},
}

// TestRolloutsUnderFaults changes one service in a cluster of real processes, by edits and by
// rollouts, refuses at instances, kills and cuts off agents, all at random. Then: no version
// has two contents, no instance goes back, none serves again what its service refused, readers
// of stable have seen nothing but what became stable, and edits, promotions and rollbacks are
// linearizable with consistent reads (porcupine).
func TestRolloutsUnderFaults(t *testing.T) {
	seed := *faultsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d, for %v", seed, *faultsFor)
	u := &turmoil{fleet: newFleet(t), r: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), done: map[string]int{}, stable: map[uint64]string{}}
	first, value, ok := stableOf(u.Leader().Admin("GET", "/api/config/services/"+service+"?consistent=1", ""))
	if !ok {
		t.Fatal("no first value")
	}
	for _, n := range u.Nodes {
		u.fleet.done.Go(func() { u.look(n) })
	}
	var bag []int
	for i, a := range acts {
		for range a.n {
			bag = append(bag, i)
		}
	}
	for time.Since(u.began) < *faultsFor && len(u.bad) == 0 {
		a := acts[bag[u.r.IntN(len(bag))]]
		a.do(u)
		u.done[a.name]++
	}
	u.settle()
	u.check(first, value)
	t.Logf("%v; %d changes, %d consistent reads", u.done, len(u.writes), len(u.reads))
	if *faultsFor >= time.Minute && (u.done["refused"] == 0 || len(u.reads) < 10) {
		t.Error("too little happened to mean anything")
	}
}

// settle ends what runs, and waits until all agents have the same.
func (u *turmoil) settle() {
	u.AwaitVoters(3)
	testenv.Await(u.t, "no rollout to run", func() bool {
		var page conf.Page[conf.RolloutInfo]
		r := u.Leader().Admin("GET", "/api/config/rollouts", "")
		if r.Status != http.StatusOK || json.Unmarshal(r.Body, &page) != nil {
			return false
		}
		for _, i := range page.Results {
			if !i.Ended() {
				u.Leader().Admin("POST", "/api/config/rollouts/"+i.ID+"/abort", "")
				return false
			}
		}
		return true
	})
	last := &write{value: u.value(), call: u.now()}
	u.add(last)
	version := u.Leader().Patch(service, `{"vad_threshold":`+last.value+`}`)
	last.ret = u.now()
	for _, in := range u.all {
		testenv.Await(u.t, in.name+" to serve the last edit", func() bool { return in.saw(version) })
	}
	u.AwaitConverged(u.t)
	u.consistent()
}

// check holds what was seen against what the log has made of it.
func (u *turmoil) check(first uint64, value string) {
	t, n := u.t, u.Leader()
	versions := map[uint64]string{}
	var list struct {
		Versions []conf.Metadata `json:"versions"`
	}
	n.Admin("GET", "/api/config/services/"+service+"/versions?limit=1000", "").Into(t, &list)
	for _, m := range list.Versions {
		if m.Version == first {
			continue
		}
		v, val, ok := stableOf(n.Admin("GET", fmt.Sprintf("/api/config/services/%s?values=stored&version=%d", service, m.Version), ""))
		if !ok || v != m.Version {
			t.Fatalf("version %d cannot be read", m.Version)
		}
		if val == "" { // a revert to the first version, whose value is the default
			val = value
		}
		versions[v] = val
	}
	versions[first] = value
	var page conf.Page[conf.RolloutInfo]
	n.Admin("GET", "/api/config/services/"+service+"/rollouts?limit=100", "").Into(t, &page)
	u.mu.Lock()
	defer u.mu.Unlock()
	for v, val := range u.stable {
		if versions[v] != val {
			t.Errorf("a reader of stable saw %s as version %d, which is %q", val, v, versions[v])
		}
	}
	content := maps.Clone(versions)
	for _, in := range u.all {
		in.mu.Lock()
		if in.bad != "" {
			t.Error(in.bad)
		}
		for v, val := range in.seen {
			if was, ok := content[v]; ok && was != val {
				t.Errorf("version %d is %s, and %s at %s", v, was, val, in.name)
			}
			content[v] = val
		}
		in.mu.Unlock()
	}
	for _, b := range u.bad {
		t.Error(b)
	}
	u.linearizable(first, value, versions, page.Results)
}

// linearizable checks that the versions came about in the order in which they were asked for.
func (u *turmoil) linearizable(first uint64, value string, versions map[uint64]string, rollouts []conf.RolloutInfo) {
	t := u.t
	by := map[string]*write{}
	for _, w := range u.writes {
		by[w.value] = w
	}
	type in struct {
		write bool
		read  // what was read, or the version that was made
	}
	reverts := map[uint64]*write{} // a rollback has the time of its rollout
	for _, ro := range rollouts {
		reverts[ro.Revert] = &write{} // the answer to its start was lost
		for _, w := range u.writes {
			if w.id == ro.ID {
				reverts[ro.Revert] = w
			}
		}
	}
	var ops []porcupine.Operation
	end := u.now()
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		if v == first {
			continue
		}
		w := by[versions[v]]
		if back := reverts[v]; back != nil {
			w = &write{call: back.call, ret: -1}
		}
		switch {
		case w == nil: // the revert of a rollout whose start had no answer
			w = &write{ret: -1}
		case w.refused:
			t.Errorf("%s was refused, and is version %d", versions[v], v)
		}
		ret := w.ret
		if ret < 0 || w.id != "" {
			ret = end
		}
		ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: in{true, read{version: v, value: versions[v]}}, Call: w.call, Return: ret})
	}
	for _, r := range u.reads {
		ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: in{false, r}, Call: r.call, Return: r.ret})
	}
	type state struct {
		version uint64
		value   string
	}
	model := porcupine.Model{
		Init: func() any { return state{first, value} },
		Step: func(s, input, _ any) (bool, any) {
			at, i := s.(state), input.(in)
			if i.write {
				return i.version > at.version, state{i.version, i.value}
			}
			return at == state{i.version, i.value}, at
		},
	}
	switch porcupine.CheckOperationsTimeout(model, ops, time.Minute) {
	case porcupine.Illegal:
		t.Error("edits, promotions, rollbacks and consistent reads are not linearizable")
	case porcupine.Unknown:
		t.Log("whether they are linearizable was not decided in a minute")
	}
}
