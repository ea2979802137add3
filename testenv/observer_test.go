package testenv

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

var observerRounds = flag.Int("observer-rounds", 1, "how often TestObserver goes through all its faults")

// newObserver makes an observer of stt-worker that trusts the keys of a member.
func newObserver(t testing.TB, member *Agent, broker string, env ...string) *Agent {
	t.Helper()
	trust := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(trust, member.Local("/v1/keys").OK(t).Body, 0o600); err != nil {
		t.Fatal(err)
	}
	return NewAgent(t, append([]string{
		"CONFIG_ROLE=observer", "CONFIG_TRUST=" + trust, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_OBSERVE_URL=mqtt://" + broker,
		"CONFIG_SCHEMA_DIR=", "CONFIG_API_TOKEN=" + ReadToken, "CONFIG_LOCAL_SOCKET=none",
	}, env...)...)
}

// refusals are the refused updates of an observer, by reason, without zeroes.
func refusals(t testing.TB, a *Agent) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(string(a.Local("/metrics").OK(t).Body)) {
		if rest, ok := strings.CutPrefix(line, `holdfast_update_refused_total{reason="`); ok {
			if reason, n, _ := strings.Cut(strings.TrimSpace(rest), `"} `); n != "0" {
				out[reason] = n
			}
		}
	}
	return out
}

// monitor reads an observer all the time and fails when it ever goes back,
// whatever is down or restarted.
type monitor struct {
	t     testing.TB
	a     *Agent
	stop  chan struct{}
	done  sync.WaitGroup
	mu    sync.Mutex
	last  conf.Metadata
	reads int
}

func watchOver(t testing.TB, a *Agent) *monitor {
	m := &monitor{t: t, a: a, stop: make(chan struct{})}
	m.done.Go(m.run)
	t.Cleanup(m.end)
	return m
}

func (m *monitor) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		close(m.stop)
		m.stop = nil
	}
}

func (m *monitor) run() {
	stop := m.stop
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		d, err := m.a.TryDocument("stt-worker")
		if err != nil {
			continue // it is down
		}
		m.mu.Lock()
		now := d.Metadata
		if m.reads > 0 && (now.Epoch != m.last.Epoch || now.Version < m.last.Version || now.IssuedAt < m.last.IssuedAt) {
			m.t.Errorf("it went back from version %d of %s to %d of %s, source %s", m.last.Version, m.last.IssuedAt, now.Version, now.IssuedAt, d.Source)
		}
		m.last = now
		m.reads++
		m.mu.Unlock()
	}
}

func (m *monitor) seen() (version uint64, reads int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.Version, m.reads
}

// TestObserver follows a cluster of three through a real Mosquitto, with a write
// always on its way: the broker is killed, leaders die, the observers are killed and
// restarted, and all of that at once. A reader of them sees no older value, ever.
func TestObserver(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	c := StartCluster(t, 3, 0, "MQTT_URL=mqtt://"+m.addr, "CONFIG_MQTT_REISSUE=2s")
	leader := c.Leader()
	members := []string{}
	for _, n := range c.Nodes {
		members = append(members, "http://"+n.AdminAddr)
	}
	env := "CONFIG_MEMBER_URL=" + strings.Join(members, ",")
	observers := []*Agent{newObserver(t, leader.Agent, m.addr, env), newObserver(t, leader.Agent, m.addr, env)}
	var monitors []*monitor
	for _, o := range observers {
		o.Start()
		o.AwaitServing("stt-worker")
		monitors = append(monitors, watchOver(t, o))
	}

	stop := make(chan struct{})
	var writer sync.WaitGroup
	var mu sync.Mutex
	var acked uint64 // the newest version that was acknowledged
	writer.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			live := c.Live()
			if len(live) == 0 {
				continue
			}
			r := live[n%len(live)].Admin("PATCH", "/api/config/services/stt-worker", fmt.Sprintf(`{"sample_rate":%d}`, n))
			var out struct {
				NewVersion uint64 `json:"new_version"`
			}
			if r.Err == nil && r.Status == http.StatusOK && json.Unmarshal(r.Body, &out) == nil {
				mu.Lock()
				acked = max(acked, out.NewVersion)
				mu.Unlock()
			}
		}
	})
	var once sync.Once
	finish := func() {
		once.Do(func() {
			close(stop)
			writer.Wait()
		})
	}
	t.Cleanup(finish)
	newest := func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return acked
	}
	// caughtUp waits for writes from now on to be acknowledged, and to be seen.
	caughtUp := func(after string) {
		t.Helper()
		from := newest()
		Await(t, "writes to go on after "+after, func() bool { return newest() >= from+3 })
		want := newest()
		for i, mon := range monitors {
			Await(t, fmt.Sprintf("observer %d to see version %d after %s", i, want, after), func() bool {
				v, _ := mon.seen()
				return v >= want || t.Failed()
			})
		}
	}
	caughtUp("the start")
	restartLeader := func() {
		l := c.Leader()
		l.Kill()
		Await(t, "another leader", func() bool { n := c.TryLeader(); return n != nil && n != l })
		l.Start()
		l.AwaitUp()
	}
	for round := range *observerRounds {
		for _, fault := range []struct {
			what string
			do   func()
		}{
			{"mosquitto was killed and came back without its memory", func() { m.proc.Kill(); m.start() }},
			{"the leader was killed", restartLeader},
			{"an observer was killed", func() { observers[0].Kill(); observers[0].Start() }},
			{"an observer was stopped", func() { observers[1].Stop(); observers[1].Start() }},
			{"mosquitto was gone for a while: the members are asked", func() {
				m.proc.Kill()
				caughtUp("mosquitto is gone")
				m.start()
			}},
			{"all of it at once", func() {
				m.proc.Kill()
				observers[0].Kill()
				restartLeader()
				observers[0].Start()
				m.start()
			}},
		} {
			fault.do()
			caughtUp(fmt.Sprintf("%s (round %d)", fault.what, round))
		}
	}
	finish()
	want := newest()
	for i, mon := range monitors {
		Await(t, "the last write", func() bool { v, _ := mon.seen(); return v >= want })
		_, reads := mon.seen()
		bad := refusals(t, observers[i])
		delete(bad, "older") // a member that was asked may have been behind
		if len(bad) > 0 || reads < 500 {
			t.Errorf("observer %d: %d reads, refused %v", i, reads, bad)
		}
		t.Logf("observer %d: version %d, %d reads", i, want, reads)
	}

	observers[0].AwaitLKG(State{"stt-worker": observers[0].Document("stt-worker")})

	// Everything dies. What is left serves at once what it had, and tells how old it is.
	m.proc.Kill()
	for _, n := range c.Live() {
		n.Kill()
	}
	o := observers[0]
	o.Kill()
	o.Start()
	d := o.AwaitServing("stt-worker")
	if d.Source != "lkg" || d.Metadata.Version < want {
		t.Errorf("alone it serves version %d from %s, want %d from lkg", d.Metadata.Version, d.Source, want)
	}
	issued, err := conf.ParseTime(d.Metadata.IssuedAt)
	if err != nil {
		t.Fatal(err)
	}
	Await(t, "X-Config-Age to be that of the signature", func() bool { // it is counted once a second
		least := time.Since(issued).Seconds()
		age, err := strconv.Atoi(o.Local("/v1/config/stt-worker").Header.Get("X-Config-Age"))
		return err == nil && float64(age) >= least-3 && float64(age) <= time.Since(issued).Seconds()+1
	})
	o.Local("/readyz").OK(t)
	var h conf.Health
	if !poll(Patience, func() bool { // until it has tried to reach somebody
		o.Local("/healthz").Into(t, &h)
		return !h.OK && h.OperationalMode == conf.ModeReadOnly && h.LKGCacheValid && h.Err != nil
	}) {
		t.Errorf("health %s", jsonText(h))
	}
}

// TestObserverAtTheEmbeddedBroker follows another agent's own broker, without any
// outside one; the local API, its secrets and the command line work as beside a
// member.
func TestObserverAtTheEmbeddedBroker(t *testing.T) {
	t.Parallel()
	broker := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	a := StartProcess(t, "CONFIG_MQTT_ADDR="+broker, "CONFIG_MQTT_REISSUE=1s")
	schemas := t.TempDir()
	schema := `{"type":"object","properties":{"whisper_model":{"type":"string","default":"none"},"api_key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"STT_API_KEY"}}}`
	if err := os.WriteFile(filepath.Join(schemas, "stt-worker.json"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newObserver(t, a, broker, "CONFIG_SERVICE_NAME=stt-worker, router,nobody", "CONFIG_SCHEMA_DIR="+schemas, "STT_API_KEY=hush")
	o.Start()
	o.AwaitSource("stt-worker", "replica")
	o.AwaitServing("router")
	want := a.Document("stt-worker")
	got := o.Document("stt-worker")
	if string(got.Config) != string(want.Config) || got.Metadata.Version != want.Metadata.Version || got.Metadata.Epoch != want.Metadata.Epoch {
		t.Errorf("the observer has %s, the member %s", jsonText(got), jsonText(want))
	}
	if r := o.Local("/v1/config"); !strings.Contains(string(r.OK(t).Body), `"service":"stt-worker"`) {
		t.Errorf("its own service: %s", r)
	}
	if r := o.Local("/v1/config/nobody").Want(t, http.StatusServiceUnavailable, conf.CodeReadOnly); r.Header.Get("Retry-After") == "" {
		t.Errorf("it says that a service which it has not heard of yet does not exist, or for ever: %s", r)
	}
	if r := o.Local("/readyz"); r.Status != http.StatusServiceUnavailable || !strings.Contains(string(r.Body), "nobody") {
		t.Errorf("ready without one of its services: %s", r)
	}
	for _, path := range []string{"/v1/config/router", "/v1/env/stt-worker", "/v1/config/stt-worker/whisper_model"} {
		if own, theirs := o.Local(path).OK(t), a.Local(path).OK(t); path != "/v1/config/router" && string(own.Body) != string(theirs.Body) {
			t.Errorf("%s: %s, the member says %s", path, own, theirs)
		}
	}
	for path, want := range map[string]string{
		"/ofrep/v1/evaluate/flags/whisper_model": `"value":"base.en","reason":"STATIC"`, "/ofrep/v1/evaluate/flags/api_key": "FLAG_NOT_FOUND",
		"/s/router/ofrep/v1/evaluate/flags": `"key":"router_stream_min_chars","value":30,`, "/s/nobody/ofrep/v1/evaluate/flags": "nothing was heard yet",
	} {
		if r := Do("POST", "http://"+o.LocalAddr+path, "{}"); !strings.Contains(string(r.Body), want) || strings.Contains(string(r.Body), "hush") {
			t.Errorf("%s: %s", path, r)
		}
	}
	token, err := os.ReadFile(o.Path("local-token"))
	if err != nil {
		t.Fatal(err)
	}
	header := "X-Holdfast-Token: " + strings.TrimSpace(string(token))
	if r := o.Local("/v1/config/stt-worker/api_key?raw", header).OK(t); string(r.Body) != "hush" {
		t.Errorf("an environment secret: %s", r)
	}
	o.Local("/v1/config/stt-worker/api_key").Want(t, http.StatusUnauthorized, conf.CodeUnauthenticated)

	// A long poll ends with the change, and not with a new signature of the same.
	etag := o.Local("/v1/config/stt-worker").Header.Get("Etag")
	issued := got.Metadata.IssuedAt
	Await(t, "the leader to sign anew", func() bool { return o.Document("stt-worker").Metadata.IssuedAt != issued })
	if r := o.Local("/v1/config/stt-worker", "If-None-Match: "+etag); r.Status != http.StatusNotModified {
		t.Errorf("signed anew, it counts as changed: %s", r)
	}
	polled := make(chan Reply, 1)
	go func() { polled <- o.Local("/v1/config/stt-worker?wait=60s", "If-None-Match: "+etag) }()
	Await(t, "the poll to wait", func() bool {
		return strings.Contains(string(o.Local("/metrics").Body), `holdfast_local_waiting{kind="poll"} 1`)
	})
	a.Patch("stt-worker", `{"whisper_model":"tiny.en"}`)
	if r := <-polled; r.Status != http.StatusOK || !strings.Contains(string(r.Body), "tiny.en") {
		t.Errorf("the long poll: %s", r)
	}
	Await(t, "it to be young, with a new signature each second", func() bool {
		age, err := strconv.Atoi(o.Local("/v1/config/stt-worker").Header.Get("X-Config-Age"))
		return err == nil && age <= 10
	})

	// The command line beside it.
	cli := func(args ...string) string {
		t.Helper()
		p := Spawn(t, filepath.Dir(o.Dir), o.Env(), o.bin, args...)
		if code := p.Wait(t, strings.Join(args, " ")); code != 0 {
			t.Fatalf("holdfast %s: exit %d: %s", strings.Join(args, " "), code, p.Output())
		}
		return p.Output()
	}
	if out := cli("get", "stt-worker", "whisper_model", "--raw"); out != "tiny.en\n" {
		t.Errorf("get: %q", out)
	}
	if out := cli("env", "stt-worker", "--secrets"); !strings.Contains(out, "API_KEY=hush") {
		t.Errorf("env: %q", out)
	}
	if out := cli("status"); !strings.Contains(out, "following "+broker) {
		t.Errorf("status: %q", out)
	}

	// A deletion is one here too.
	a.Try("DELETE", "/api/config/services/router?reason=test", "").OK(t)
	Await(t, "the deletion", func() bool { return o.Local("/v1/config/router").Status == http.StatusNotFound })

	// The files of a member are not its to use, nor the other way round.
	p := Spawn(t, filepath.Dir(a.Dir), append(o.Env(), "CONFIG_DATA_DIR="+a.Dir), o.bin, "agent")
	if code := p.Wait(t, "an observer in a member's directory"); code != 2 || !strings.Contains(p.Output(), "directory of a member") {
		t.Errorf("in a member's directory: exit %d, %s", code, p.Output())
	}
}

// TestObserverRefuses: what an attacker who owns the broker can do, in a real process.
func TestObserverRefuses(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	a := StartProcess(t, "MQTT_URL=mqtt://"+m.addr, "CONFIG_MQTT_REISSUE=0")
	other := retainedOn(t, m, "router", "")
	stranger := StartProcess(t, "MQTT_URL=mqtt://"+m.addr, "CONFIG_NODE_ID=stranger", "CONFIG_MQTT_REISSUE=0")
	stranger.Stop() // its messages are of another cluster, and retained
	o := newObserver(t, a, m.addr)
	a.Patch("stt-worker", `{"sample_rate":1}`)
	old := retainedOn(t, m, "stt-worker", `"sample_rate":1,`)
	o.Start()
	o.AwaitServing("stt-worker")
	a.Patch("stt-worker", `{"sample_rate":2}`)
	good := retainedOn(t, m, "stt-worker", `"sample_rate":2,`)
	sees := func(what, value string) {
		t.Helper()
		Await(t, what, func() bool { return string(o.Local("/v1/config/stt-worker/sample_rate").Body) == value })
	}
	sees("the newest", "2")
	counted := func(what, reason, payload string) {
		t.Helper()
		before := refusals(t, o)[reason]
		m.publish(payload, true)
		Await(t, what+" to be counted as "+reason, func() bool { return refusals(t, o)[reason] != before })
	}
	counted("a replay", "older", old)
	counted("a changed value", "checksum", strings.Replace(good, `"sample_rate":2`, `"sample_rate":3`, 1))
	counted("another service", "service", other)
	counted("a new spelling", "reserialised", strings.ReplaceAll(good, `":`, `": `))
	head, _, _ := strings.Cut(good, `,"signature"`)
	counted("no signature", "unsigned", head+"}")
	counted("a wrong signature", "signature", head+`,"signature":"`+strings.Repeat("A", 86)+`=="}`)
	counted("junk", "malformed", "\x00junk")
	counted("too much", "too_large", strings.Repeat("x", seal.MaxUpdate+1))
	if string(o.Local("/v1/config/stt-worker/sample_rate").Body) != "2" {
		t.Error("it changed its mind")
	}
	o.AwaitSource("stt-worker", "replica")
	// The same after its restart, with the last forgery retained.
	m.publish(old, true)
	o.Kill()
	o.Start()
	o.AwaitServing("stt-worker")
	Await(t, "the replay to be refused again", func() bool { return refusals(t, o)["older"] != "" })
	sees("what it had", "2")
	a.Patch("stt-worker", `{"sample_rate":4}`)
	sees("the next true value", "4")

	// A rebuilt store has a new epoch. Its proof is on the broker; an epoch that was
	// left is not entered again.
	before := retainedOn(t, m, "stt-worker", `"sample_rate":4,`)
	epoch := o.Document("stt-worker").Metadata.Epoch
	Do("POST", "http://"+a.AdminAddr+"/api/config/rebuild", `{"token":"`+RebuildToken+`"}`, "Content-Type: application/json").OK(t)
	Await(t, "the new epoch", func() bool {
		d, err := o.TryDocument("stt-worker")
		return err == nil && d.Metadata.Epoch != epoch
	})
	a.AwaitNormal()
	a.Patch("stt-worker", `{"sample_rate":5}`)
	sees("values of the new epoch", "5")
	counted("the old epoch", "epoch", before)
	o.Kill()
	o.Start()
	o.AwaitServing("stt-worker")
	Await(t, "the old epoch to be refused again", func() bool { return refusals(t, o)["epoch"] != "" })
	sees("the new epoch's", "5")
	Await(t, "the log to say that the epoch was left", func() bool { return o.log.Has("which was left") })
}

// retainedOn is the message of a service, with text, that the broker retains.
func retainedOn(t testing.TB, m *mosquitto, service, text string) string {
	t.Helper()
	host, port, _ := strings.Cut(m.addr, ":")
	var last string
	Await(t, "a retained message that stays", func() bool {
		out, code := runFor(t, "mosquitto_sub", "-h", host, "-p", port, "-t", "system/config/"+service, "-C", "1", "-W", "10")
		same := code == 0 && out == last && out != "" && strings.Contains(out, text)
		last = out
		return same
	})
	return last
}

func runFor(t testing.TB, name string, args ...string) (string, int) {
	t.Helper()
	Need(t, name)
	p := Spawn(t, t.TempDir(), nil, name, args...)
	code := p.Wait(t, name)
	return strings.TrimSuffix(p.Output(), "\n"), code
}

// TestObserverSettings: what is missing is said with the way out.
func TestObserverSettings(t *testing.T) {
	t.Parallel()
	bin := Binary(t, "./cmd/holdfast")
	key := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--service", "a", "--mqtt", "mqtt://127.0.0.1:1"}, "public key of the cluster"},
		{[]string{"--trust", key, "--mqtt", "mqtt://127.0.0.1:1"}, "--service NAME"},
		{[]string{"--trust", key, "--service", "a"}, "--mqtt mqtt://host:1883"},
		{[]string{"--trust", "no key", "--service", "a", "--mqtt", "mqtt://127.0.0.1:1"}, "neither a key nor a file"},
		{[]string{"--trust", key, "--service", "A,b", "--mqtt", "mqtt://127.0.0.1:1"}, "bad service name"},
		{[]string{"--trust", key, "--service", "a", "--mqtt", "ftp://u:hunter2@h"}, "neither mqtt nor mqtts"},
		{[]string{"--trust", key, "--service", "a", "--mqtt", "mqtts://h", "--mqtt-ca", "/nowhere"}, "MQTT_CA_FILE"},
		{[]string{"--role", "watcher"}, "neither member nor observer"},
	} {
		args := append([]string{"agent", "--role", "observer", "--data-dir", filepath.Join(t.TempDir(), "d"), "--local-addr", "127.0.0.1:0"}, c.args...)
		p := Spawn(t, t.TempDir(), nil, bin, args...)
		code := p.Wait(t, "a refusal")
		if out := p.Output(); code != 2 && code != 7 || !strings.Contains(out, c.want) || !strings.Contains(out, "hint: ") && c.args[0] != "--role" || strings.Contains(out, "hunter2") {
			t.Errorf("%v: exit %d, %s", c.args, code, out)
		}
	}
}
