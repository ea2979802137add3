package testenv

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// One of three agents serves the candidate, and the other two are killed. Its service refuses
// the candidate: the old values are back within two seconds, by that agent alone, and they
// are served after it was killed too. When the others are back, all have them.
func TestRefusalWithoutTheOthers(t *testing.T) {
	c := StartCluster(t, 3, 0, "CONFIG_SERVICE_NAME=router", "CONFIG_ACK_OPEN=1")
	v := c.Nodes[0].Patch("router", `{"router_stream_min_chars":41}`)
	for _, n := range c.Nodes {
		awaitVersion(t, n, "router", v)
	}
	leader, followers := c.Servers()
	canary := followers[0]
	body := fmt.Sprintf(`{"patch":{"router_stream_min_chars":66},"reason":"try","require":"applied","deadline":"10m","steps":[{"instances":[%q],"bake":"10m"},{"percent":100}]}`, canary.ID)
	var r Reply
	Await(t, "the start of a rollout, for which the leader has to know the instance", func() bool {
		r = leader.Admin("POST", "/api/config/services/router/rollouts", body)
		return r.Status == http.StatusOK || r.Status == http.StatusCreated
	})
	awaitVersion(t, canary, "router", v+1)
	d := canary.Document("router")
	if d.Metadata.Channel != conf.ChannelCandidate || d.Metadata.Rollout == "" {
		t.Fatalf("%+v", d.Metadata)
	}
	gone := c.Except(canary)
	for _, n := range gone {
		if d := n.Document("router"); d.Metadata.Version != v {
			t.Errorf("%s, which is no target, serves version %d", n.ID, d.Metadata.Version)
		}
		n.Kill()
	}
	began := time.Now()
	ack := fmt.Sprintf(`{"version":%d,"config_epoch":%q,"status":"rejected","reason":"port in use"}`, v+1, d.Metadata.Epoch)
	if r := Do("POST", "http://"+canary.LocalAddr+"/v1/ack/router", ack); r.Status != http.StatusAccepted {
		t.Fatalf("the refusal: %s", r)
	}
	awaitVersion(t, canary, "router", v+2)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the old values are back after %s", took)
	}
	back := canary.Document("router")
	for range 2 {
		canary.Kill()
		canary.Start()
		canary.AwaitReads("router")
		if now := canary.Document("router"); string(now.Config) != string(back.Config) || now.Metadata.Version != v+2 || now.Metadata.Channel != "" {
			t.Fatalf("after a kill: %s, %+v", now.Config, now.Metadata)
		}
	}
	for _, n := range gone {
		n.Start()
	}
	for _, n := range c.Nodes {
		awaitVersion(t, n, "router", v+2)
		if now := n.Document("router"); string(now.Config) != string(back.Config) {
			t.Errorf("%s serves %s", n.ID, now.Config)
		}
	}
}
