package agent_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv"
)

// keysOf are the keys that r accepts for a member, by its store.
func (r *running) keysOf(node string) (accepted []string) {
	r.T.Helper()
	rep := r.Rooms().Replicas.Current()
	if rep == nil {
		return nil
	}
	keys, err := rep.Store().Queries.MemberKeys(r.T.Context())
	if err != nil {
		r.T.Fatal(err)
	}
	for _, k := range keys {
		if k.NodeID == node && k.RevokedAt == "" {
			accepted = append(accepted, k.KeyHash)
		}
	}
	return accepted
}

// get calls a route of n1's cluster port, and returns the status; 0 for no answer.
func (th *thief) get(path string) int {
	th.t.Helper()
	req, err := http.NewRequestWithContext(th.t.Context(), http.MethodGet, "https://n1"+path, nil)
	if err != nil {
		th.t.Fatal(err)
	}
	resp, err := th.port.Client("n1").Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// raft reports whether the thief opens Raft at n1.
func (th *thief) raft(addr string) bool {
	th.t.Helper()
	c, err := th.port.RaftLayer().Dial(addr, 5*time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// remove removes a member, and stops it.
func (r *running) remove(gone *running) {
	r.T.Helper()
	node := gone.Info().NodeID
	r.Await(node+" to be removed", func() bool {
		code, _ := r.admin("POST", "cluster/members/"+node+"/remove", "")
		return code == http.StatusOK
	})
	gone.Stop()
}

// A certificate that was stolen from a sidecar opens nothing after the sidecar was removed,
// not when another agent is admitted under its id either; nor does that of a server whose
// id is that of a sidecar now.
func TestAnAdmissionDoesNotReviveCertificates(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	addr := n1.Info().Cluster
	n1.Await("a keyring", func() bool { return testStatus{n1.keyring()}.active(conf.KeyMaster) != "" })
	token := func(role string) string {
		code, _, body := n1.Call("POST", n1.Info().AdminURL+"/api/config/cluster/tokens", `{"role":"`+role+`","service":"demo"}`,
			"X-API-Token", testenv.WriteToken, "Content-Type", "application/json")
		if code != http.StatusOK {
			t.Fatal(code, body)
		}
		body = body[strings.Index(body, "HF1"):]
		return body[:strings.IndexByte(body, '"')]
	}
	admit := func(role string) *running {
		o := joining(t, n1, "x", token(role))
		o.ServiceName = "demo"
		return start(t, o).ready()
	}
	granted := func() string { return "/keys/granted?id=" + n1.Rooms().Keys.Set().MasterID }

	server := admit(conf.MemberServer)
	wasServer := steal(t, server.Rooms().Cluster.Port.Identity(), addr)
	if !wasServer.raft(addr) {
		t.Fatal("a server cannot open Raft")
	}
	n1.remove(server)
	side := admit(conf.MemberSidecar)
	if got, want := n1.keysOf("x"), side.Rooms().Cluster.Port.Identity().Peer().Key; len(got) != 1 || got[0] != want {
		t.Errorf("x is admitted with %v, want %s", got, want)
	}
	if wasServer.raft(addr) {
		t.Error("the certificate of a removed server opens Raft: its id is that of a sidecar")
	}
	if code := wasServer.get("/status"); code != 0 {
		t.Errorf("the certificate of a removed server gets %d", code)
	}

	wasSide := steal(t, side.Rooms().Cluster.Port.Identity(), addr)
	n1.Await("a key for the sidecar", func() bool { return wasSide.get(granted()) == http.StatusOK })
	n1.remove(side)
	again := admit(conf.MemberSidecar)
	honest := steal(t, again.Rooms().Cluster.Port.Identity(), addr) // what the agent itself is given
	n1.Await("a key for its successor", func() bool { return honest.get(granted()) == http.StatusOK })
	if code := wasSide.get(granted()); code != 0 {
		t.Errorf("a stolen certificate gets the key of its service: %d", code)
	}
	// Other members refuse it, too.
	stolen := wasSide.id.Peer()
	again.Await("the key at the other members", func() bool { return again.Rooms().Cluster.Allowed(stolen) != nil })
	if err := again.Rooms().Cluster.Allowed(n1.Rooms().Cluster.Port.Identity().Peer()); err != nil {
		t.Error(err)
	}
}

// A row that an earlier build wrote has no key: its member is admitted by id and role, with
// any key but a revoked one. The leader records the key at the member's address as soon as
// every voter can apply that, and a connection with another key ends.
func TestKeysOfAnOlderClusterAreRecorded(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	addr := n1.Info().Cluster
	n1.Await("the key of the first server", func() bool { return len(n1.keysOf("n1")) == 1 })
	n2 := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)).ready()
	x := start(t, joining(t, n1, "x", n1.joinToken(conf.MemberSidecar).Token)).ready()
	n1.Await("n2 to vote", func() bool {
		_, _ = n1.admin("POST", "cluster/members/n2/promote", "")
		return n1.voters()["n2"]
	})
	n1.lead(n2)
	revoked := steal(t, x.Rooms().Cluster.Port.Identity(), addr)
	n1.remove(x)

	features := n2.Rooms().Cluster.Features()
	now := features.Own()
	features.SetOwn(now &^ command.FeatureMemberKey)
	n1.Rooms().Cluster.Features().Reset()
	o := joining(t, n1, "x", n1.joinToken(conf.MemberSidecar).Token)
	x = start(t, o).ready()
	if got := n1.keysOf("x"); len(got) != 0 {
		t.Fatalf("%v was written past a voter that cannot apply it", got)
	}
	// Whatever the earlier admissions of x left.
	issue := func(role pki.Role) *pki.Identity {
		own := n1.Rooms().Cluster.Port.Identity()
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.NewCSR(key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := own.CA.Issue(csr, "x", role, pki.DefaultTTL, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		id, err := pki.NewIdentity(cert.Raw, key, [][]byte{own.CA.Certificate().Raw})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if other := steal(t, issue(pki.RoleServer), addr); other.get("/status") != 0 || other.raft(addr) {
		t.Error("a certificate for another role than that of the row is accepted")
	}
	if revoked.get("/status") != 0 {
		t.Error("a revoked key is accepted where the row has none")
	}
	byID := steal(t, issue(pki.RoleSidecar), addr)
	if byID.get("/status") != http.StatusOK {
		t.Error("a row without a key is not admitted by its id")
	}

	features.SetOwn(now)
	n1.Await("the key of x", func() bool {
		n1.lead(n2)
		got := n1.keysOf("x")
		return len(got) == 1 && got[0] == x.Rooms().Cluster.Port.Identity().Peer().Key
	})
	// The row is in the store a moment before the port goes by it.
	n1.Await("connections with another key than the recorded one to end", func() bool { return byID.get("/status") == 0 })
	x.follows(n1, "5")
	x.Stop()
	x = start(t, o).ready()
	x.follows(n1, "6")

	// A renewal keeps the key. An earlier build makes a new one, which is recorded first.
	port := x.Rooms().Cluster.Port
	fresh, err := port.Renew(t.Context(), "n1")
	if err != nil || fresh.Peer().Key != port.Identity().Peer().Key || fresh.Peer().Serial == port.Identity().Peer().Serial {
		t.Fatalf("renewed: %+v, %v", fresh, err)
	}
	if err := port.SetIdentity(fresh); err != nil {
		t.Fatal(err)
	}
	older := renewAsOlder(t, port)
	if len(n1.keysOf("x")) != 2 {
		t.Errorf("keys %v", n1.keysOf("x"))
	}
	if err := port.SetIdentity(older); err != nil {
		t.Fatal(err)
	}
	x.follows(n1, "7")
}

// A sidecar that was away while a server was removed and admitted again under its id accepts
// it: the other servers have its admission.
func TestAServerThatWasReplacedMeanwhileIsAccepted(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	o := joining(t, r[0], "side", r[0].joinToken(conf.MemberSidecar).Token)
	side := start(t, o).ready()
	was := r[0].Rooms().Cluster.Port.Identity()
	side.Await("the key of n1", func() bool { return len(side.keysOf("n1")) == 1 && len(side.keysOf("n2")) == 1 })
	side.Stop()
	r[1].lead(r[:]...)
	r[1].remove(r[0])
	n1 := start(t, joining(t, r[1], "n1", r[1].joinToken(conf.MemberServer).Token)).ready()
	r[1].Await("n1 to vote", func() bool { return r[1].voters()["n1"] })
	n1.lead(r[1], r[2])
	side = start(t, o).ready()
	side.follows(n1, "8")
	side.Await("the removal of the earlier n1", func() bool { return side.Rooms().Cluster.Allowed(was.Peer()) != nil })
}

// follows waits until x reads what is changed at r.
func (r *running) follows(leader *running, value string) {
	r.T.Helper()
	leader.Await("a change", func() bool { code, _ := leader.set(value); return code == http.StatusOK })
	r.Await("the change", func() bool { v, _ := r.level(); return v == value })
}

// renewAsOlder renews a certificate for a new key, as earlier builds do.
func renewAsOlder(t *testing.T, port *transport.Transport) *pki.Identity {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"csr": csr})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://n1/renew", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := port.Client("n1").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var g struct {
		Certificate []byte   `json:"certificate"`
		CAs         [][]byte `json:"cas"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&g); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode, err)
	}
	id, err := pki.NewIdentity(g.Certificate, key, g.CAs)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
