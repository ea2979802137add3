package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestOldBuildIsNotWrittenPast: while a voter runs a build that cannot apply a kind of
// change, the leader refuses to make one, and says what to do; also in the first moment
// of a leadership, in which it has heard of nobody.
func TestOldBuildIsNotWrittenPast(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	n1, n2, n3 := r[0], r[1], r[2]
	for _, a := range r {
		a.Rooms().Cluster.Features().SetOwn(0) // builds of before members told
	}
	newer := &command.Keyring{At: conf.FormatTime(time.Now())}
	propose := func() error { _, err := n1.Rooms().Replicas.Propose(t.Context(), newer); return err }
	n1.lead(n2, n3)
	n1.Rooms().Cluster.Features().SetOwn(command.Features()) // the first that is upgraded
	n1.Rooms().Cluster.Features().Reset()                    // as a new leader is
	err := propose()
	if conf.CodeOf(err) != conf.CodeUnsupported || !strings.Contains(err.Error(), "member n") || !strings.Contains(conf.HintOf(err), "cluster remove n") {
		t.Fatalf("%v; %s", err, conf.HintOf(err))
	}
	if code, body := n1.set("9"); code != 200 { // what they know goes on
		t.Errorf("%d %s", code, body)
	}
	n2.Rooms().Cluster.Features().SetOwn(command.Features())
	if err := propose(); conf.CodeOf(err) != conf.CodeUnsupported {
		t.Errorf("one is left: %v", err)
	}
	n3.Rooms().Cluster.Features().SetOwn(command.Features())
	n1.Await("the upgrade to be known", func() bool { n1.lead(n2, n3); return propose() == nil })
}

// TestSidecarOfOldBuildStopsNoChange: the word of a member that does not vote holds
// nothing up, whatever it says, and says it again.
func TestSidecarOfOldBuildStopsNoChange(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	n2 := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberSidecar).Token)).ready()
	n2.Rooms().Cluster.Features().SetOwn(1 << 63)
	for range 3 {
		if _, err := n1.Rooms().Cluster.NodeStats(t.Context(), "n2", ""); err != nil { // as autopilot asks
			t.Fatal(err)
		}
		if code, body := n1.set("9"); code != 200 {
			t.Errorf("%d %s", code, body)
		}
		if _, err := n1.Rooms().Replicas.Propose(t.Context(), &command.Keyring{At: conf.FormatTime(time.Now())}); err != nil {
			t.Error(err)
		}
	}
	code, _, body := n1.Call("POST", n1.Info().AdminURL+"/api/config/cluster/members/n2/remove", "", "X-API-Token", testenv.WriteToken, "Content-Type", "application/json")
	if code != 200 {
		t.Error(body)
	}
}
