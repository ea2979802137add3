package agent_test

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv"
)

// thief is a member's certificate in other hands.
type thief struct {
	t    *testing.T
	id   *pki.Identity
	port *transport.Transport
}

func steal(t *testing.T, id *pki.Identity, addr string) *thief {
	t.Helper()
	p, err := transport.Open(transport.Options{
		Identity: id, Listen: "127.0.0.1:0", AddrOf: func(string) (string, bool) { return addr, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	th := &thief{t, id, p}
	t.Cleanup(th.gone)
	return th
}

func (th *thief) gone() { _ = th.port.Stop(context.WithoutCancel(th.t.Context())) }

// pull asks n1 for the master key, and says whether it was given.
func (th *thief) pull(key string) bool {
	th.t.Helper()
	req, err := http.NewRequestWithContext(th.t.Context(), http.MethodGet, "https://n1/keys/pull?kind=master&id="+key, nil)
	if err != nil {
		th.t.Fatal(err)
	}
	resp, err := th.port.Client("n1").Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// The certificate of a member that was removed opens nothing: not on a connection
// that was open, not before a replica is up, not without one, not after a rebuild.
func TestARemovedMemberStaysOut(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})
	n1 := start(t, o).ready()
	n2 := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)).ready()
	th := steal(t, n2.Rooms().Cluster.Port.Identity(), n1.Info().Cluster)
	key := n1.Rooms().Keys.Set().MasterID
	n1.Await("a key for a member", func() bool { return th.pull(key) })
	n1.Await("n2 to be taken out", func() bool {
		code, _ := n1.admin("POST", "cluster/members/n2/remove", "")
		return code == http.StatusOK
	})
	if th.pull(key) {
		t.Error("it gets a key on a connection that was open")
	}
	n2.Stop()
	n1.Stop()

	if a, err := agent.New(t.Context(), o, n1.Log); err != nil {
		t.Fatal(err)
	} else {
		if a.Rooms().Cluster.Allowed(th.id.Peer()) == nil {
			t.Error("it is let in while the replica is being opened")
		}
		n1 = run(t, o, a)
	}
	n1.ready().Stop()
	damage(t, o)
	n1 = start(t, o)
	n1.Await("the damage", func() bool { return n1.Health().DatabaseStatus == conf.DatabaseCorrupted })
	if th.pull(key) {
		t.Error("it gets a key from an agent without a replica")
	}
	if code, _, body := n1.Call("POST", n1.Info().AdminURL+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`); code != http.StatusOK {
		t.Fatal(body)
	}
	n1.ready()
	n1.Rooms().Cluster.Set([]conf.Member{{NodeID: "n1", Role: conf.MemberServer, Addr: n1.Info().Cluster}}, nil) // what the new store knows
	if th.pull(key) {
		t.Error("it gets a key from a store that was rebuilt")
	}
	// The files for tools hold tokens that the new store knows.
	for _, path := range []string{o.ServerTokenPath, o.SidecarTokenPath} {
		n1.Await("a token in "+path, func() bool {
			tok, err := transport.ReadTokenFile(path)
			if err != nil {
				return false
			}
			list, err := n1.Rooms().Members.Tokens(t.Context())
			return err == nil && slices.ContainsFunc(list, func(j conf.JoinTokenInfo) bool { return j.ID == tok.ID && !j.Revoked })
		})
	}
	n1.Stop()
}
