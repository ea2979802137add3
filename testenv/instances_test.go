package testenv

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Instances are those of a service, as an agent says.
func (a *API) instances(service string) (out conf.Instances) {
	r := a.Admin("GET", "/api/config/services/"+service+"/instances", "")
	_ = json.Unmarshal(r.Body, &out)
	return out
}

// acknowledge sends the word of the service beside an agent.
func (n *Node) acknowledge(service, status, reason string) Reply {
	n.t.Helper()
	token, err := os.ReadFile(n.Path("local-token"))
	if err != nil {
		n.t.Fatal(err)
	}
	doc := n.Local("/v1/config/" + service).OK(n.t)
	body := fmt.Sprintf(`{"version":%s,"config_epoch":%q,"status":%q,"reason":%q}`, doc.Header.Get("X-Config-Version"), doc.Header.Get("X-Config-Epoch"), status, reason)
	return Do("POST", "http://"+n.LocalAddr+"/v1/ack/"+service, body, "X-Holdfast-Token: "+strings.TrimSpace(string(token)))
}

// statuses are for messages.
func statuses(in conf.Instances) (out []string) {
	for _, i := range in.Instances {
		out = append(out, fmt.Sprintf("%s %s v%d", i.Instance, i.Status, i.Version))
	}
	return out
}

// Four instances, one refuses: the author sees it within two seconds, by the API at any
// agent and by the command line, in the words of the service. A new leader hears all of it
// again, and a member that is removed is gone.
func TestFourInstances(t *testing.T) {
	t.Parallel()
	c := NewCluster(t)
	const service = "stt-worker"
	for i := range 4 {
		c.Join("server", "CONFIG_SERVICE_NAME="+service, fmt.Sprintf("CONFIG_INSTANCE=stt-%d", i+1), fmt.Sprintf("CONFIG_LABELS=place=%d", i+1))
	}
	c.AwaitVoters(3)
	a, others := c.Servers()
	for _, n := range c.Nodes {
		n.AwaitServing(service)
		n.Local("/v1/config/" + service).OK(t)
	}
	Await(t, "all to be known", func() bool {
		got := a.instances(service)
		return got.Complete && len(got.Instances) == 4 && !slices.ContainsFunc(got.Instances, func(i conf.Instance) bool { return i.Status != conf.InstanceRead })
	})
	a.Admin("PATCH", "/api/config/services/"+service, `{"vad_threshold":0.61}`, "Content-Type: application/json").OK(t)
	Await(t, "the second version everywhere", func() bool {
		return !slices.ContainsFunc(a.instances(service).Instances, func(i conf.Instance) bool { return i.Version != 2 })
	})
	for _, n := range c.Nodes {
		if n.ID != "n2" {
			if r := n.acknowledge(service, "applied", ""); r.Status != 202 {
				t.Fatalf("%s", r)
			}
		}
	}
	refused := time.Now()
	if r := c.Nodes[1].acknowledge(service, "rejected", "port 9000 is in use"); r.Status != 202 {
		t.Fatalf("%s", r)
	}
	const want = "3 of 4 run v2; stt-2 refused: port 9000 is in use"
	for _, n := range c.Nodes { // the leader and those that ask it
		Await(t, "the refusal at "+n.ID, func() bool { return n.instances(service).Summary == want })
	}
	if took := time.Since(refused); took > 2*time.Second {
		t.Errorf("it is seen everywhere after %s", took)
	} else {
		t.Logf("it is seen everywhere after %s", took)
	}
	out, code := others[0].Holdfast("instances", service, "--wait", "2", "--timeout", "20s")
	if code != 9 || !strings.Contains(out, "port 9000 is in use") {
		t.Errorf("exit %d: %s", code, out)
	}
	if took := time.Since(refused); took > 10*time.Second {
		t.Errorf("the command ends after %s", took)
	}

	a.Kill()
	a.down()
	b := others[0]
	Await(t, "a new leader that has heard of it", func() bool {
		got := b.instances(service)
		return len(got.Instances) >= 3 && !slices.ContainsFunc(got.Instances, func(i conf.Instance) bool { return i.Status == conf.InstanceReceived }) && strings.Contains(got.Summary, "refused") != (a.ID == "n2")
	})
	Await(t, "it to say who is silent", func() bool {
		got := b.instances(service)
		if got.Complete {
			t.Fatalf("complete without %s: %v", a.ID, statuses(got))
		}
		return strings.Contains(got.Why, a.ID)
	})
	Await(t, "the member to be removed", func() bool {
		return b.Admin("POST", "/api/config/cluster/members/"+a.ID+"/remove", "").Status == 200
	})
	Await(t, "a complete list without it", func() bool {
		got := b.instances(service)
		return got.Complete && len(got.Instances) == 3
	})
}

// An observer reports with a token that can do nothing else, and cannot speak for a member.
func TestObserverReports(t *testing.T) {
	t.Parallel()
	a := StartProcess(t, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_NODE_ID=n1", "CONFIG_MQTT_ADDR="+loopback(FreePorts(t, 1)[0]))
	const service = "stt-worker"
	token := struct {
		Token string `json:"token"`
	}{}
	if err := json.Unmarshal(a.Admin("POST", "/api/config/tokens", `{"role":"config.report","name":"observers"}`, "Content-Type: application/json").OK(t).Body, &token); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/api/config/services": 403, "/api/config/services/" + service + "/instances": 403, "/v1/nothing": 403} {
		if r := Do("GET", "http://"+a.AdminAddr+path, "", "X-API-Token: "+token.Token); r.Status != want {
			t.Errorf("%s: %s", path, r)
		}
	}
	report := `{"reports":[{"instance":"%s","node":"%s","service":"stt-worker","config_epoch":"e","version":9,"status":"applied","since":"2026-01-02T03:04:05Z","term":99,"seq":1,"boot":"b"}]}`
	if r := Do("POST", "http://"+a.AdminAddr+"/api/config/instances", fmt.Sprintf(report, "n1", "x1"), "X-API-Token: "+token.Token, "Content-Type: application/json"); r.Status != 403 {
		t.Errorf("for a member: %s", r)
	}
	if r := Do("POST", "http://"+a.AdminAddr+"/api/config/instances", fmt.Sprintf(report, "x1", "x1"), "X-API-Token: "+token.Token, "Content-Type: application/json"); r.Status != 200 {
		t.Errorf("of another term: %s", r) // which is told, and the report is not taken
	}
	o := newObserver(t, a, a.env["CONFIG_MQTT_ADDR"], "CONFIG_MEMBER_URL=http://"+a.AdminAddr, "CONFIG_REPORT_TOKEN="+token.Token, "CONFIG_INSTANCE=edge-1", "CONFIG_SERVICE_NAME="+service)
	o.Start()
	o.AwaitServing(service)
	Await(t, "the report of the observer", func() bool {
		got := a.instances(service)
		return slices.ContainsFunc(got.Instances, func(i conf.Instance) bool {
			return i.Instance == "edge-1" && i.Kind == "observer" && i.Status == conf.InstanceRead && i.Version == got.Version
		}) && len(got.Instances) == 2
	})
}

// An observer without a token reports at its broker. The leader shows that, as the word of
// anybody who may write there: never for a member, and not what makes no sense. A leader that
// starts again has it from the broker.
func TestObserverReportsOverMQTT(t *testing.T) {
	t.Parallel()
	Need(t, "mosquitto_pub")
	m := startMosquitto(t)
	const service = "stt-worker"
	a := StartProcess(t, "CONFIG_SERVICE_NAME="+service, "CONFIG_NODE_ID=n1", "MQTT_URL=mqtt://"+m.addr)
	o := newObserver(t, a, m.addr, "CONFIG_INSTANCE=edge-2", "CONFIG_LABELS=zone=b", "CONFIG_SERVICE_NAME="+service)
	o.Start()
	o.AwaitServing(service)
	shown := func() bool {
		got := a.instances(service)
		return slices.ContainsFunc(got.Instances, func(i conf.Instance) bool {
			return i.Instance == "edge-2" && i.Kind == "mqtt" && i.Status == conf.InstanceRead && i.Version == got.Version && i.Labels["zone"] == "b"
		})
	}
	Await(t, "the report of the observer", shown)
	say := func(service, instance, report string) {
		t.Helper()
		host, port, _ := strings.Cut(m.addr, ":")
		cmd := exec.Command("mosquitto_pub", "-V", "5", "-h", host, "-p", port, "-q", "1", "-t", "system/ack/"+service+"/"+instance, "-m", report)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	report := func(instance string) string {
		return fmt.Sprintf(`{"instance":%q,"node":%q,"service":"stt-worker","config_epoch":"e","version":1,"status":"rejected","since":"2026-01-02T03:04:05Z","reason":"forged","term":1,"seq":1,"boot":"b"}`, instance, instance)
	}
	say(service, "n1", report("n1")) // a member
	say(service, "x1", report("x2")) // another than the topic's
	say("nobody", "x3", strings.ReplaceAll(report("x3"), service, "nobody"))
	say(service, "x4", `{"instance":"x4"`)
	say(service, "x5", report("x5")) // anybody: it is shown
	Await(t, "what anybody may say", func() bool {
		return slices.ContainsFunc(a.instances(service).Instances, func(i conf.Instance) bool { return i.Instance == "x5" && i.Kind == "mqtt" })
	})
	for _, i := range a.instances(service).Instances {
		if slices.Contains([]string{"x1", "x2", "x3", "x4"}, i.Instance) || i.Instance == "n1" && i.Reason != "" {
			t.Errorf("it is shown: %+v", i)
		}
	}
	o.Kill()
	a.Restart()
	a.AwaitNormal()
	Await(t, "the report that the broker kept", shown)
}

// A thousand observers report to one leader: every 30 s while nothing happens, and all at
// once after a change. What that costs the leader is said; its memory has a bound.
func TestThousandReporters(t *testing.T) {
	t.Parallel()
	const service, reporters = "stt-worker", 1000
	a := StartProcess(t, "CONFIG_SERVICE_NAME="+service)
	var token struct{ Token string }
	if err := json.Unmarshal(a.Admin("POST", "/api/config/tokens", `{"role":"config.report","name":"observers"}`, "Content-Type: application/json").OK(t).Body, &token); err != nil {
		t.Fatal(err)
	}
	var term, seq atomic.Uint64
	epoch := a.instances(service).Epoch
	report := func(i int, version uint64) {
		body := fmt.Sprintf(`{"reports":[{"instance":"edge-%d","node":"edge-%d","labels":{"zone":"z%d"},"service":%q,"config_epoch":%q,"version":%d,"status":"applied","since":"2026-01-02T03:04:05Z","term":%d,"seq":%d,"boot":"b"}]}`,
			i, i, i%3, service, epoch, version, term.Load(), seq.Add(1))
		var out conf.ReportReply
		r := Do("POST", "http://"+a.AdminAddr+"/api/config/instances", body, "X-API-Token: "+token.Token, "Content-Type: application/json")
		if err := json.Unmarshal(r.Body, &out); err != nil || r.Status != 200 {
			t.Errorf("report %d: %s", i, r)
		}
		term.Store(out.Term)
	}
	all := func(version uint64) {
		var senders sync.WaitGroup
		for part := range 16 {
			senders.Go(func() {
				for i := part; i < reporters && !t.Failed(); i += 16 {
					report(i, version)
				}
			})
		}
		senders.Wait()
	}
	took := func(what string, f func()) {
		rss, cpu := usage(t, a.proc.Pid())
		began := time.Now()
		f()
		now, after := usage(t, a.proc.Pid())
		t.Logf("%s: %.2f s of the leader's processor in %.2f s; its memory is %.0f MB, %+.0f MB", what,
			after-cpu, time.Since(began).Seconds(), now, now-rss)
	}
	report(0, 1) // whose answer has the term
	before, _ := usage(t, a.proc.Pid())
	took("a thousand that report for the first time", func() { all(1) })
	took("30 seconds in which nothing happens: a thousand say the same", func() { all(1) })
	var version uint64
	took("a change: a thousand take it", func() {
		version = uint64(a.Patch(service, `{"vad_threshold":0.61}`)) //nolint:gosec // small
		all(version)
		Await(t, "all of them to have it", func() bool {
			n := 0
			for _, i := range a.instances(service).Instances {
				if i.Version == version && i.Status == conf.InstanceApplied {
					n++
				}
			}
			return n == reporters
		})
	})
	took("a rollout while a thousand report again and again", func() {
		var info conf.RolloutInfo
		a.Try("POST", "/api/config/services/"+service+"/rollouts", `{"patch":{"vad_threshold":0.62},"require":"received","steps":[{"count":1,"bake":"1s"}],"final_bake":"1s"}`,
			"Content-Type: application/json").Into(t, &info)
		Await(t, "the rollout to be complete", func() bool {
			all(version)
			return json.Unmarshal(a.Admin("GET", "/api/config/rollouts/"+info.ID, "").Body, &info) == nil && info.State == conf.RolloutCompleted
		})
	})
	took("the answer about a thousand, ten times", func() {
		for range 10 {
			a.instances(service)
		}
	})
	if now, _ := usage(t, a.proc.Pid()); now-before > 96 {
		t.Errorf("the leader took %.0f MB for a thousand instances", now-before)
	}
}
