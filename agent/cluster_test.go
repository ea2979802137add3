package agent_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// freeAddr is a loopback address that nothing listens on: a joining agent has to
// say its address before it may listen there.
func freeAddr(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(testenv.FreePorts(t, 1)[0])
}

func (r *running) joinToken(role string) conf.NewJoinToken {
	r.T.Helper()
	code, _, body := r.Call("POST", r.Info().AdminURL+"/api/config/cluster/tokens", `{"role":"`+role+`"}`,
		"X-API-Token", testenv.WriteToken, "Content-Type", "application/json")
	var tok conf.NewJoinToken
	if err := json.Unmarshal([]byte(body), &tok); err != nil || code != http.StatusOK || tok.Token == "" {
		r.T.Fatalf("%d %s", code, body)
	}
	if want := "holdfast agent --join " + r.Info().Cluster + " --token " + tok.Token; tok.Command != want {
		r.T.Fatalf("command %q", tok.Command)
	}
	return tok
}

// lead has r lead, should another one of them have been elected meanwhile.
func (r *running) lead(others ...*running) {
	r.T.Helper()
	r.Await("it leads", func() bool {
		for _, a := range others {
			if ss := a.Rooms().Replicas.Current(); a != r && ss != nil && a.Rooms().Cluster.IsReadyLeader() {
				_ = ss.Node().Transfer(r.T.Context(), r.Info().NodeID)
			}
		}
		return r.Rooms().Cluster.IsReadyLeader()
	})
}

func (r *running) status() conf.ClusterStatus {
	r.T.Helper()
	s, err := r.Rooms().Cluster.Status(r.T.Context())
	if err != nil {
		r.T.Fatal(err)
	}
	return s
}

// joining are the options of an agent that joins r.
func joining(t *testing.T, r *running, id, token string) options.Options {
	t.Helper()
	o := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": id, "CONFIG_CLUSTER_ADDR": freeAddr(t), "CONFIG_SCHEMA_DIR": ""})
	o.Join, o.JoinToken = r.Info().Cluster, token
	return o
}

func TestAgentsFormACluster(t *testing.T) {
	t.Parallel()
	first := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})
	n1 := start(t, first).ready()
	used := n1.joinToken(conf.MemberServer)
	o2 := joining(t, n1, "n2", used.Token)
	n2 := start(t, o2).ready()
	n3 := start(t, joining(t, n1, "n3", n1.joinToken(conf.MemberServer).Token)).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	n1.Await("three voters", func() bool { return n1.status().Voters == 3 })

	// Any agent takes a change, and all see it.
	for i, r := range []*running{n2, n3, side} {
		level := string(rune('2' + i))
		if code, body := r.set(level); code != http.StatusOK {
			t.Fatalf("a write at agent %d: %d %s", i+2, code, body)
		}
		for _, reader := range []*running{n1, n2, n3, side} {
			reader.Await("level "+level, func() bool { v, _ := reader.level(); return v == level })
		}
	}
	// A sidecar has no key that signs, seals or opens the API.
	if k := side.Rooms().Keys.Set(); k.Private != nil || k.Master != nil || len(k.Tokens) > 2 || k.RebuildToken != "" {
		t.Fatalf("the sidecar holds keys: %v", k)
	}
	if string(n2.Rooms().Keys.Set().Private) != string(n1.Rooms().Keys.Set().Private) {
		t.Fatal("a server did not get the signing key")
	}
	// A server lets others in when the first one is gone: it has the CA.
	if n2.Rooms().Cluster.Port.Identity().CA == nil || side.Rooms().Cluster.Port.Identity().CA != nil {
		t.Fatal("the CA key is where it does not belong, or is not where it does")
	}
	// A token that is used up lets nobody else in, in words that say no more.
	_, err := agent.New(t.Context(), joining(t, n1, "n9", used.Token), n1.Log)
	if conf.CodeOf(err) != conf.CodeDenied || !strings.Contains(err.Error(), "the join token was refused") {
		t.Fatalf("a used token: %v", err)
	}
	// Consistent reads at a follower see what was acknowledged elsewhere.
	if code, body := n1.set("50"); code != http.StatusOK {
		t.Fatal(body)
	}
	_, _, body := n2.Call("GET", n2.Info().AdminURL+"/api/config/services/demo?consistent=1", "", "X-API-Token", testenv.ReadToken)
	if !strings.Contains(body, `"level":50`) {
		t.Fatal(body)
	}
	// The leader goes; another one takes changes, and the state is one.
	n1.Stop()
	n2.Await("a change without the first leader", func() bool { code, _ := n2.set("60"); return code == http.StatusOK })
	side.Await("the change everywhere", func() bool { v, _ := side.level(); return v == "60" })
	n1 = start(t, first).ready()
	n1.Await("the same state everywhere", func() bool {
		s := n1.status()
		digests := map[string]bool{}
		for _, n := range s.Nodes {
			if n.State == conf.NodeUnreachable {
				return false
			}
			digests[n.Digest] = true
		}
		return len(s.Nodes) == 4 && len(digests) == 1
	})
	if v, _ := n1.level(); v != "60" {
		t.Fatal(v)
	}
	// Without the others there is no quorum: reads go on, changes are refused.
	n2.Stop()
	n3.Stop()
	n1.Await("no leader", func() bool {
		node, _ := n1.Rooms().Cluster.Leader()
		return node == "" && !n1.Rooms().Cluster.IsReadyLeader()
	})
	code, text := n1.setOnce("70")
	if code != http.StatusServiceUnavailable || !strings.Contains(text, `"code":"no_quorum"`) {
		t.Fatalf("%d %s", code, text)
	}
	if v, _ := side.level(); v != "60" {
		t.Fatal(v)
	}
	// All others dead: it restarts from its directory, and serves.
	side.Stop()
	n1.Stop()
	n2 = start(t, o2)
	if v, _ := n2.level(); v != "60" {
		t.Fatal(v)
	}
	n2.Await("its own database, without a quorum", func() bool { v, src := n2.level(); return v == "60" && src == "replica" })
	if h := n2.Health(); h.OperationalMode != conf.ModeReadOnly || h.OK {
		t.Fatalf("alone of three voters: %+v", h)
	}
}
