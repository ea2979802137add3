package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// mark is a value that tells which epoch it was written in: "A-7" is the seventh of
// the old one, "B-1" the first of the restored one.
type mark struct {
	epoch string
	n     int
}

var markForm = regexp.MustCompile(`^([AB])-([0-9]+)$`)

func (m mark) String() string { return m.epoch + "-" + strconv.Itoa(m.n) }

// before says whether m is older than o, in this epoch or by it.
func (m mark) before(o mark) bool {
	return m.epoch < o.epoch || m.epoch == o.epoch && m.n < o.n
}

// shown is what one receiver has shown, in its order.
type shown struct {
	t    testing.TB
	name string

	mu    sync.Mutex
	may   string // the epochs that it may show now
	last  mark
	count map[string]int
}

// add takes what the receiver shows now. It fails when that is older than what was
// shown before, or of an epoch that nobody told it to enter.
func (s *shown) add(value string) {
	parts := markForm.FindStringSubmatch(value)
	if parts == nil {
		s.t.Errorf("%s shows %q, which nobody wrote", s.name, value)
		return
	}
	n, _ := strconv.Atoi(parts[2])
	now := mark{parts[1], n}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now == s.last {
		return
	}
	if now.before(s.last) {
		s.t.Errorf("%s went back from %s to %s", s.name, s.last, now)
	}
	if !strings.Contains(s.may, now.epoch) {
		s.t.Errorf("%s shows %s, and was not told to enter that epoch", s.name, now)
	}
	s.last = now
	s.count[now.epoch]++
}

// enter allows it other epochs from now on.
func (s *shown) enter(epochs string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.may = epochs
}

func (s *shown) newest() mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// reached waits until it shows m, or what is newer in the same epoch.
func (s *shown) reached(m mark) {
	s.t.Helper()
	Await(s.t, fmt.Sprintf("%s to show %s", s.name, m), func() bool {
		now := s.newest()
		return s.t.Failed() || now.epoch == m.epoch && !now.before(m)
	})
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// epochsTest reads all its receivers all the time.
type epochsTest struct {
	t     *testing.T
	stop  chan struct{}
	wg    sync.WaitGroup
	all   []*shown
	wrote map[string]int
}

func (e *epochsTest) receiver(name, may string, look func(add func(string))) *shown {
	s := &shown{t: e.t, name: name, may: may, count: map[string]int{}}
	e.all = append(e.all, s)
	e.wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-e.stop:
				return
			case <-tick.C:
				look(s.add)
			}
		}
	})
	return s
}

// agent reads an agent's local API. What it serves without having had anything, as
// after its directory was emptied, is not of any epoch.
func (e *epochsTest) agent(name, may string, a *Agent) *shown {
	return e.receiver(name, may, func(add func(string)) {
		if doc, err := a.TryDocument("stt-worker"); err == nil && doc.Source != "default" {
			add(fmt.Sprint(doc.Values["whisper_model"]))
		}
	})
}

var modelForm = regexp.MustCompile(`"whisper_model":"([^"]*)"`)

// sample is one of the subscribers of testenv/services/mqtt, which can be told of
// an epoch as docs/mqtt.md says.
type sample struct {
	*shown
	e       *epochsTest
	dir     string
	env     []string
	command []string

	mu   sync.Mutex
	proc *Process
	read int // verdicts that were looked at
}

func (e *epochsTest) sample(name, broker, trust string, command []string) *sample {
	e.t.Helper()
	p := &sample{e: e, dir: e.t.TempDir(), command: command}
	p.env = []string{
		"MQTT_URL=mqtt://" + broker, "CONFIG_SERVICE_NAME=stt-worker", "TRUST_FILE=" + trust,
		"STATE_FILE=" + filepath.Join(p.dir, "state"), "TMPDIR=" + e.t.TempDir(), nodePath,
	}
	p.start()
	p.shown = e.receiver(name, "A", p.look)
	return p
}

func (p *sample) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proc, p.read = Spawn(p.e.t, p.dir, p.env, p.command[0], p.command[1:]...), 0
}

func (p *sample) look(add func(string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.Split(said(p.proc), "\n")
	for ; p.read < len(lines)-1; p.read++ {
		if m := modelForm.FindStringSubmatch(lines[p.read]); m != nil {
			add(m[1])
		}
	}
}

// refused counts what it refused for being of another epoch.
func (p *sample) refused() int { return strings.Count(said(p.proc), "refused: epoch\n") }

// tell gives it another epoch.
func (p *sample) tell(epoch string) {
	p.e.t.Helper()
	p.proc.Kill()
	p.look(p.add)
	p.enter("B")
	if err := os.WriteFile(filepath.Join(p.dir, "state"), []byte(epoch+" 0\n"), 0o600); err != nil {
		p.e.t.Fatal(err)
	}
	p.start()
}

// write makes the next change in an epoch.
func (e *epochsTest) write(epoch string, at *Node) mark {
	e.t.Helper()
	e.wrote[epoch]++
	m := mark{epoch, e.wrote[epoch]}
	at.Patch("stt-worker", fmt.Sprintf(`{"whisper_model":%q}`, m))
	return m
}

// bothUntil writes in both epochs, at their leaders, until cond holds: the broker
// retains only the last word of the two, and who listens late has heard no other.
func (e *epochsTest) bothUntil(what string, old, next *Node, cond func() bool) {
	e.t.Helper()
	Await(e.t, what, func() bool {
		if e.t.Failed() || poll(200*time.Millisecond, cond) {
			return true
		}
		e.write("A", old)
		e.write("B", next)
		return false
	})
}

// last is the newest change in an epoch.
func (e *epochsTest) last(epoch string) mark { return mark{epoch, e.wrote[epoch]} }

func refusedEpoch(t testing.TB, o *Agent) int {
	n, _ := strconv.Atoi(refusals(t, o)["epoch"])
	return n
}

// TestEpochsNeverMix: a cluster is lost and made again from its backup, and then its
// old leader comes back to life, on the same outside broker. Nobody ever sees a value
// of the one epoch after one of the other, and nobody enters the new one without
// having been told.
func TestEpochsNeverMix(t *testing.T) {
	t.Parallel()
	programs := subscribers(t)
	e := &epochsTest{t: t, stop: make(chan struct{}), wrote: map[string]int{}}
	t.Cleanup(func() { close(e.stop); e.wg.Wait() }) // after all agents have ended, paused ones too
	m := startMosquitto(t)
	s := NewS3(t)
	env := append(s.Env("prod"), "MQTT_URL=mqtt://"+m.addr)
	c := NewCluster(t, env...)
	inside := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	old, next := c.Join(conf.MemberServer), c.Join(conf.MemberServer) // of two servers the first one alone votes
	side := c.Join(conf.MemberSidecar, "CONFIG_MQTT_ADDR="+inside)
	c.AwaitVoters(1)
	trust := (&mqttCluster{Cluster: c}).trust(t)

	// The old epoch, and all kinds of receivers in it.
	first := e.write("A", old)
	listen(t, m.addr, "stt-worker").sees(first.String())
	listen(t, inside, "stt-worker").sees(first.String())
	members := "CONFIG_MEMBER_URL=http://" + old.AdminAddr + ",http://" + next.AdminAddr
	follower := newObserver(t, old.Agent, m.addr, members) // of both clusters' members, later
	sleeper := newObserver(t, old.Agent, m.addr)           // does not run during the loss
	within := newObserver(t, old.Agent, inside)            // hears the sidecar only
	for _, o := range []*Agent{follower, sleeper, within} {
		o.Start()
		o.AwaitServing("stt-worker")
	}
	oldLeader := e.agent("the old leader", "A", old.Agent)
	sidecar := e.agent("the sidecar", "A", side.Agent)
	following := e.agent("the observer at the outside broker", "AB", follower)
	asleep := e.agent("the observer that slept", "AB", sleeper)
	beside := e.agent("the observer at the sidecar's broker", "A", within)
	var outside []*sample
	for name, command := range programs {
		outside = append(outside, e.sample("the "+name+" client of the outside broker", m.addr, trust, command))
	}
	client := e.sample("the client of the sidecar's broker", inside, trust, programs["go"])
	oldWorld := []*shown{oldLeader, sidecar, beside, client.shown}
	for _, p := range outside {
		oldWorld = append(oldWorld, p.shown)
	}
	seen := func(m mark, all ...*shown) {
		t.Helper()
		for _, r := range all {
			r.reached(m)
		}
	}
	last := e.write("A", old)
	seen(last, append(oldWorld, following, asleep)...)
	Await(t, "all to be backed up", func() bool {
		st, ok := old.backup()
		return ok && st.Verified != nil && st.Behind == 0
	})

	// All is lost, as far as anybody knows. A new cluster is made from the backup.
	oldEpoch := old.EpochFile().ConfigEpoch
	sleeper.Kill()
	next.Kill()
	old.Pause()
	next.Wipe()
	copyFile(t, old.EnvFile(), next.EnvFile())
	next.args = []string{"agent", "--restore"}
	next.Start()
	next.AwaitUp()
	next.args = []string{"agent"}
	if doc := next.AwaitServing("stt-worker"); fmt.Sprint(doc.Values["whisper_model"]) != last.String() {
		t.Fatalf("restored %v, want %s", doc.Values["whisper_model"], last)
	}
	newEpoch := next.EpochFile().ConfigEpoch
	if newEpoch == oldEpoch {
		t.Fatal("the restored cluster goes on in the old epoch")
	}
	b := e.write("B", next)
	newLeader := e.agent("the new leader", "B", next.Agent)
	seen(b, newLeader, following) // it goes over by the signed change
	for _, p := range outside {
		Await(t, p.name+" to refuse the new epoch", func() bool { return p.refused() > 0 || t.Failed() })
	}

	// The old leader comes back, and what it says is what the broker keeps.
	old.Resume()
	zombie := e.write("A", old)
	listen(t, m.addr, "stt-worker").sees(zombie.String())
	seen(zombie, oldWorld...)
	Await(t, "the observer that went over to refuse the old leader", func() bool { return refusedEpoch(t, follower) > 0 })
	follower.Kill()
	follower.Start() // hears the old leader's message first
	sleeper.Start()
	late := newObserver(t, old.Agent, m.addr, "CONFIG_ACCEPT_EPOCH="+newEpoch)
	late.Start()
	joined := e.agent("the observer that was told the new epoch", "B", late)
	for name, o := range map[string]*Agent{"that was restarted": follower, "that was told the new epoch": late} {
		Await(t, "the observer "+name+" to refuse what the broker retains", func() bool {
			r := o.Local("/metrics")
			return r.Err == nil && refusedEpoch(t, o) > 0
		})
	}
	seen(zombie, asleep) // nothing of the new epoch has reached it
	newWorld := []*shown{newLeader, following, asleep, joined}
	b = e.write("B", next)
	seen(b, newWorld...)

	// Both go on at the same time.
	for i := range 20 {
		zombie, _ = e.write("A", old), e.write("B", next)
		if i%7 == 3 {
			follower.Kill()
			follower.Start()
		}
	}
	b = e.write("B", next)
	seen(zombie, oldWorld...)
	seen(b, newWorld...)
	for _, p := range outside {
		e.bothUntil(p.name+" to have refused a few messages", old, next, func() bool { return p.refused() >= 3 })
		seen(e.last("A"), oldWorld...)
	}

	// Those that are told go over, and do not go back.
	for _, p := range outside {
		p.tell(newEpoch)
	}
	if got := client.refused(); got != 0 {
		t.Errorf("the sidecar's broker has shown %d messages of another epoch before it was told", got)
	}
	sidecar.enter("")
	side.Kill()
	side.Wipe()
	sidecar.enter("B")
	beside.enter("AB")
	side.Paste(next.TokenCommand("--role", "sidecar"))
	side.AwaitUp()
	newWorld = append(newWorld, sidecar, beside) // which has heard the signed change from the sidecar
	for _, p := range outside {
		newWorld = append(newWorld, p.shown)
		e.bothUntil(p.name+" to listen", old, next, func() bool { return p.refused() > 0 })
	}
	for _, o := range []*Agent{follower, sleeper, late} {
		e.bothUntil("each observer to have refused something since its start", old, next, func() bool { return refusedEpoch(t, o) > 0 })
	}
	seen(e.last("A"), oldLeader)
	b = e.write("B", next)
	seen(b, newWorld...)
	Await(t, client.name+" to refuse the new epoch", func() bool { return client.refused() > 0 })
	client.tell(newEpoch)
	seen(b, client.shown)

	for name, o := range map[string]*Agent{"at the outside broker": follower, "that slept": sleeper, "that was told": late, "at the sidecar's broker": within} {
		got := refusals(t, o)
		if name != "at the sidecar's broker" && got["epoch"] == "" {
			t.Errorf("the observer %s counted no refusal", name)
		}
		delete(got, "epoch")
		delete(got, "older") // a member that was asked may have been behind
		if len(got) > 0 {
			t.Errorf("the observer %s refused %v", name, got)
		}
	}
	for _, n := range []*Node{old, next} {
		st, ok := n.Status()
		if row, found := n.In(st); !ok || !found || row.NodeID != st.Leader || len(Voters(st)) != 1 {
			t.Errorf("%s sees %s", n.ID, jsonText(st))
		}
	}
	if doc := side.Document("stt-worker"); doc.Metadata.Epoch != newEpoch {
		t.Errorf("the sidecar is in the epoch %s", doc.Metadata.Epoch)
	}
	for _, r := range e.all {
		r.mu.Lock()
		t.Logf("%s: %v", r.name, r.count)
		r.mu.Unlock()
	}
}
