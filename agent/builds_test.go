package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestOldBuildIsNotWrittenPast: while a member runs a build that cannot apply a
// kind of change, the leader refuses to make one, and says what to do.
func TestOldBuildIsNotWrittenPast(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	n2 := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberSidecar).Token)).ready()
	newer := &command.Keyring{At: conf.FormatTime(time.Now())}
	propose := func() error { _, err := n1.Rooms().Replicas.Propose(t.Context(), newer); return err }
	if err := propose(); err != nil {
		t.Fatalf("all know it: %v", err)
	}
	n2.Rooms().Cluster.Features().SetOwn(0) // a build of before members told
	n1.Await("the old build to be known", func() bool { return conf.CodeOf(propose()) == conf.CodeUnsupported })
	if err := propose(); !strings.Contains(err.Error(), "n2") || !strings.Contains(conf.HintOf(err), "cluster remove n2") {
		t.Errorf("%v; %s", err, conf.HintOf(err))
	}
	if code, body := n1.set("9"); code != 200 { // what it knows goes on
		t.Errorf("%d %s", code, body)
	}
	n2.Rooms().Cluster.Features().SetOwn(command.Features())
	n1.Await("the upgrade to be known", func() bool { return propose() == nil })
	n2.Rooms().Cluster.Features().SetOwn(0)
	n1.Await("the old build to be known", func() bool { return conf.CodeOf(propose()) == conf.CodeUnsupported })
	code, _, body := n1.Call("POST", n1.Info().AdminURL+"/api/config/cluster/members/n2/remove", "", "X-API-Token", testenv.WriteToken, "Content-Type", "application/json")
	if code != 200 {
		t.Fatal(body)
	}
	n1.Await("a removed member to hold nothing up", func() bool { return propose() == nil })
}
