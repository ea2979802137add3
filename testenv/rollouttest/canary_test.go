package rollouttest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const service = "stt-worker"

// instance is an agent and the service beside it, which reads again and again, and notes
// each version that it saw.
type instance struct {
	*testenv.Node
	name string

	mu      sync.Mutex
	seen    map[uint64]string // version -> value
	refused map[uint64]bool   // versions, the refusal answered with 202
	hi      uint64
	bad     string
}

// fleet is a cluster of three servers with three instances of a service.
type fleet struct {
	*testenv.Cluster
	t    *testing.T
	all  []*instance
	stop chan struct{}
	done sync.WaitGroup
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{Cluster: testenv.StartCluster(t, 3, 0), t: t, stop: make(chan struct{})}
	for i := range 3 {
		name := fmt.Sprintf("stt-%d", i+1)
		n := f.Join(conf.MemberSidecar, "CONFIG_SERVICE_NAME="+service, "CONFIG_INSTANCE="+name)
		in := &instance{Node: n, name: name, seen: map[uint64]string{}, refused: map[uint64]bool{}}
		f.all = append(f.all, in)
		f.done.Go(func() { in.read(f.stop) })
	}
	t.Cleanup(func() { close(f.stop); f.done.Wait() })
	testenv.Await(t, "all instances to report to the leader", func() bool {
		r := f.Leader().Admin("GET", "/api/config/services/"+service+"/instances", "")
		return strings.Count(string(r.Body), `"instance":"stt-`) == 3
	})
	return f
}

// read is the service: it reads, and acknowledges what it read.
func (in *instance) read(stop <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		in.mu.Lock()
		refused := maps.Clone(in.refused)
		in.mu.Unlock()
		d, err := in.TryDocument(service)
		if err != nil {
			continue
		}
		in.mu.Lock()
		v := d.Metadata.Version
		if refused[v] {
			in.bad = fmt.Sprintf("%s serves version %d again, which its service refused", in.name, v)
		}
		if v < in.hi {
			in.bad = fmt.Sprintf("%s goes back from version %d to %d", in.name, in.hi, v)
		}
		in.hi = max(in.hi, v)
		value := fmt.Sprint(d.Values["vad_threshold"])
		if was, ok := in.seen[v]; ok && was != value {
			in.bad = fmt.Sprintf("%s has two values in version %d: %s and %s", in.name, v, was, value)
		}
		in.seen[v] = value
		in.mu.Unlock()
	}
}

func (in *instance) saw(version uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, ok := in.seen[version]
	return ok
}

// refuse is the word of the service that it cannot run a version.
func (in *instance) refuse(t *testing.T, version uint64, epoch string) {
	t.Helper()
	token, err := os.ReadFile(in.Path("local-token"))
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"version":%d,"config_epoch":%q,"status":"rejected","reason":"port in use"}`, version, epoch)
	r := testenv.Do("POST", "http://"+in.LocalAddr+"/v1/ack/"+service, body, "X-Holdfast-Token: "+strings.TrimSpace(string(token)), "Content-Type: application/json")
	if r.Status != http.StatusAccepted {
		t.Fatalf("refusing version %d at %s: %s", version, in.name, r)
	}
}

// start begins a rollout of a bad value with one instance first, and returns it with the
// instance that has it.
func (f *fleet) start(bake string) (r conf.RolloutInfo, canary *instance) {
	f.t.Helper()
	body := `{"patch":{"vad_threshold":0.9},"reason":"a try","require":"read","steps":[{"count":1,"bake":"` + bake + `"}]}`
	f.Leader().Try("POST", "/api/config/services/"+service+"/rollouts", body, "Content-Type: application/json").Into(f.t, &r)
	testenv.Await(f.t, "one instance to get the candidate", func() bool {
		for _, in := range f.all {
			if in.saw(r.Candidate) {
				canary = in
			}
		}
		return canary != nil
	})
	return r, canary
}

// ended waits until some agent tells how the rollout ended.
func (f *fleet) ended(id, state string) (r conf.RolloutInfo) {
	f.t.Helper()
	testenv.Await(f.t, "the rollout to be "+state, func() bool {
		for _, n := range f.Live() {
			reply := n.Admin("GET", "/api/config/rollouts/"+id, "")
			if reply.Status == http.StatusOK && json.Unmarshal(reply.Body, &r) == nil && r.Ended() {
				return true
			}
		}
		return false
	})
	if r.State != state {
		f.t.Fatalf("the rollout is %s: %s", r.State, r.Outcome)
	}
	return r
}

// all agents come to the same version, and nobody but the canary saw the candidate.
func (f *fleet) converged(r conf.RolloutInfo, canary *instance, version uint64, value string) {
	f.t.Helper()
	for _, in := range f.all {
		testenv.Await(f.t, fmt.Sprintf("%s to serve version %d", in.name, version), func() bool { return in.saw(version) })
	}
	for _, in := range f.all {
		in.mu.Lock()
		if in.bad != "" {
			f.t.Error(in.bad)
		}
		if _, saw := in.seen[r.Candidate]; saw != (in == canary) {
			f.t.Errorf("%s: the candidate was seen: %t; the canary is %s", in.name, saw, canary.name)
		}
		if in.seen[version] != value {
			f.t.Errorf("%s serves %s in version %d, want %s", in.name, in.seen[version], version, value)
		}
		in.mu.Unlock()
	}
	f.AwaitConverged(f.t)
}

// goesBack measures how long the canary's service waits for the values of before.
func (f *fleet) goesBack(r conf.RolloutInfo, canary *instance, before string) {
	f.t.Helper()
	epoch := canary.Document(service).Metadata.Epoch
	began := time.Now()
	canary.refuse(f.t, r.Candidate, epoch)
	testenv.Await(f.t, "the values of before at the canary", func() bool { return canary.saw(r.Revert) })
	took := time.Since(began)
	f.t.Logf("%s serves version %d again %v after its refusal", canary.name, r.Revert, took)
	if took > 2*time.Second {
		f.t.Errorf("it took %v", took)
	}
	if d := canary.Document(service); fmt.Sprint(d.Values["vad_threshold"]) != before {
		f.t.Errorf("it serves %v, want %s", d.Values["vad_threshold"], before)
	}
}

// TestCanaryWithoutItsLeader: the leader is killed right after the canary took a bad value.
func TestCanaryWithoutItsLeader(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	before := fmt.Sprint(f.all[0].Document(service).Values["vad_threshold"])
	r, canary := f.start("10m")
	leader := f.Leader()
	leader.Kill()
	f.goesBack(r, canary, before)
	end := f.ended(r.ID, conf.RolloutRolledBack)
	if !strings.Contains(end.Outcome, canary.name+" refused version") || !strings.Contains(end.Outcome, "port in use") {
		t.Errorf("the outcome is %q", end.Outcome)
	}
	leader.Start()
	leader.AwaitUp()
	f.converged(r, canary, r.Revert, before)
	if v := f.Leader().Patch(service, `{"vad_threshold":0.7}`); v != r.Revert+1 {
		t.Errorf("the next edit has version %d, want %d", v, r.Revert+1)
	}
	f.converged(r, canary, r.Revert+1, "0.7")
}

// TestCanaryAlone: everything but the canary's agent is killed right after it took a bad value.
func TestCanaryAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	before := fmt.Sprint(f.all[0].Document(service).Values["vad_threshold"])
	r, canary := f.start("10m")
	rest := f.Except(canary.Node)
	for _, n := range rest {
		n.Kill()
	}
	f.goesBack(r, canary, before)
	// Also after a restart of the agent, when nothing else is alive.
	canary.Kill()
	canary.Start()
	testenv.Await(t, "the canary's agent to serve what it served", func() bool {
		d, err := canary.TryDocument(service)
		return err == nil && d.Metadata.Version == r.Revert
	})
	for _, n := range rest {
		n.Start()
	}
	for _, n := range f.Nodes {
		n.AwaitUp()
	}
	f.ended(r.ID, conf.RolloutRolledBack)
	f.converged(r, canary, r.Revert, before)
}
