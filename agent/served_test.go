package agent_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// retained is the level that an MQTT client gets from a broker, and the properties of the message.
func retained(t *testing.T, b *broker.Broker) (level int, properties string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(b.Addr().String())
	out, err := exec.Command("mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", port, "-t", "system/config/demo", "-q", "1", "-C", "1", "-W", "20", "-F", "%P\t%p").Output()
	if err != nil {
		t.Fatalf("mosquitto_sub: %v", err)
	}
	properties, text, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
	var u struct{ Config struct{ Level int } }
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return u.Config.Level, properties
}

func (r *running) document() (d conf.ReadResponse) {
	r.T.Helper()
	_, _, body := r.Call("GET", r.Info().LocalURL+"/v1/config/demo", "")
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		r.T.Fatalf("%v: %s", err, body)
	}
	return d
}

// rollOut starts a rollout of a level to one instance.
func (r *running) rollOut(level int, instance string) conf.Rollout {
	r.T.Helper()
	to := []string{instance}
	ro, err := r.Rooms().Editor.StartRollout(r.T.Context(), conf.RolloutDraft{
		Draft: conf.Draft{Service: "demo", Op: conf.OpPatch, Document: fmt.Appendf(nil, `{"level":%d}`, level), Author: "eve", Reason: "try"},
		Plan: conf.RolloutPlan{
			Steps: []conf.RolloutStep{{Instances: to, Bake: "10m"}, {Percent: 100}}, Deadline: "10m", Require: conf.RequireReceived, OnLost: conf.OnLostPause,
		},
		Salt: "s", Target: conf.Target{Instances: to},
	})
	if err != nil {
		r.T.Fatal(err)
	}
	return ro
}

// One instance serves the candidate: over HTTP, and at the listener that is for the services
// beside it. Everybody else has what is stable. A refusal is enough to have the old values.
func TestCandidateIsForTheServiceBesideTheAgent(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "mosquitto_sub")
	o := testenv.Options(t, map[string]string{"CONFIG_SERVICE_NAME": "demo", "CONFIG_INSTANCE": "demo-1"})
	o.MQTTAddr, o.MQTTLocalAddr = "0.0.0.0:0", "127.0.0.1:0"
	r := start(t, o).ready()
	if code, body := r.set("5"); code != 200 {
		t.Fatal(body)
	}
	follow := func(b *broker.Broker) *observing {
		_, port, _ := net.SplitHostPort(b.Addr().String())
		trust := base64.StdEncoding.EncodeToString(r.Rooms().Keys.Set().Public)
		return observe(t, testenv.Options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": trust, "CONFIG_OBSERVE_URL": "mqtt://127.0.0.1:" + port,
		}))
	}
	outside, inside := follow(r.Rooms().Broker), follow(r.Rooms().Local)
	outside.serves("5", "replica")
	inside.serves("5", "replica")

	ro := r.rollOut(66, "demo-1")
	r.Await("the candidate", func() bool { level, _ := r.level(); return level == "66" })
	d := r.document()
	if d.Metadata.Channel != "candidate" || d.Metadata.Rollout != ro.ID || d.Metadata.Version != ro.Candidate.Version {
		t.Errorf("%+v", d.Metadata)
	}
	if level, p := retained(t, r.Rooms().Local); level != 66 || !strings.Contains(p, "config-channel:candidate") {
		t.Errorf("the local listener has %d, %s", level, p)
	}
	if level, p := retained(t, r.Rooms().Broker); level != 5 || strings.Contains(p, "config-channel") {
		t.Errorf("the other listener has %d, %s", level, p)
	}
	if code, _, body := r.Call("GET", r.Info().AdminURL+"/api/config/services/demo", "", "X-API-Token", testenv.ReadToken); code != 200 || !strings.Contains(body, `"level":5`) {
		t.Errorf("the admin API reads %s", body)
	}
	inside.Await("an observer at the local listener refuses it", func() bool {
		_, _, text := inside.get("/metrics")
		return strings.Contains(text, `holdfast_update_refused_total{reason="channel"} 1`)
	})
	for _, ob := range []*observing{outside, inside} {
		if _, _, body := ob.get("/v1/config/demo/level"); body != "5" {
			t.Errorf("an observer serves %s", body)
		}
	}

	token, err := os.ReadFile(o.LocalTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	ack := fmt.Sprintf(`{"version":%d,"config_epoch":%q,"status":"rejected","reason":"port in use"}`, ro.Candidate.Version, d.Metadata.Epoch)
	began := time.Now()
	if code, body := r.ack(ack, "X-Holdfast-Token", strings.TrimSpace(string(token))); code != 202 {
		t.Fatalf("%d %s", code, body)
	}
	level, _ := r.level()
	if took := time.Since(began); level != "5" || took > 2*time.Second {
		t.Errorf("after %s it serves %s", took, level)
	}
	if d := r.document(); d.Metadata.Version != ro.Revert.Version || d.Metadata.Channel != "" || d.Metadata.Rollout != "" {
		t.Errorf("%+v", d.Metadata)
	}
	r.Stop()
	r = start(t, o)
	if level, _ := r.level(); level != "5" {
		t.Errorf("after a restart it serves %s", level)
	}
	r.ready()
	if d := r.document(); d.Metadata.Version != ro.Revert.Version {
		t.Errorf("%+v", d.Metadata)
	}
}
