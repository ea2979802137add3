package agent_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// vaulted is a server with a service that has a secret, and a sidecar of that service
// which was stopped.
type vaulted struct {
	t    *testing.T
	n1   *running
	o    options.Options // of the sidecar
	side *running
}

func newVaulted(t *testing.T) *vaulted {
	t.Helper()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t), "CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})).ready()
	v := &vaulted{t: t, n1: n1}
	v.put("schemas/vault", `{"type":"object","properties":{"port":{"type":"integer"},"password":{"type":"string","x-secret":true,"x-secret-source":"database"}}}`)
	v.put("services/vault", `{"service":"vault","version":1,"config":{"port":1,"password":"correct horse"}}`)
	n1.Await("a keyring", func() bool { return testStatus{n1.keyring()}.active(conf.KeyMaster) != "" })
	return v
}

func (v *vaulted) put(path, body string) {
	v.t.Helper()
	if code, _, answer := v.n1.Call("PUT", v.n1.Info().AdminURL+"/api/config/"+path, body, "X-API-Token", testenv.WriteToken, "Content-Type", "application/json"); code != http.StatusOK {
		v.t.Fatalf("%s: %d %s", path, code, answer)
	}
}

// join starts the sidecar, by a token that says this of its service.
func (v *vaulted) join(request string) {
	v.t.Helper()
	code, _, body := v.n1.Call("POST", v.n1.Info().AdminURL+"/api/config/cluster/tokens", request, "X-API-Token", testenv.WriteToken, "Content-Type", "application/json")
	if code != http.StatusOK {
		v.t.Fatal(code, body)
	}
	token := body[strings.Index(body, "HF1"):]
	v.o = joining(v.t, v.n1, "side", token[:strings.IndexByte(token, '"')])
	v.o.ServiceName = "vault"
	v.start()
}

func (v *vaulted) start() { v.side = start(v.t, v.o).ready() }

// read is what the service beside the sidecar reads.
func (v *vaulted) read() string {
	v.t.Helper()
	proof, err := os.ReadFile(v.o.LocalTokenFile())
	if err != nil {
		v.t.Fatal(err)
	}
	_, _, body := v.side.Call("GET", v.side.Info().LocalURL+"/v1/config/vault", "", "X-Holdfast-Token", strings.TrimSpace(string(proof)))
	return body
}

// rotateTwice leaves the servers without the master key of now.
func (v *vaulted) rotateTwice() {
	v.t.Helper()
	for range 2 {
		rot, code, body := v.n1.changeKey(conf.KeyMaster, "rotate")
		if code != http.StatusOK {
			v.t.Fatal(code, body)
		}
		v.n1.Await("the end of the old key", func() bool {
			_, code, _ := v.n1.changeKey(conf.KeyMaster, "retire")
			return code == http.StatusOK && testStatus{v.n1.keyring()}.active(conf.KeyMaster) == rot.KeyID
		})
		v.n1.Await("one key at the server", func() bool { _, old := v.n1.Rooms().Keys.Set().IDs(conf.KeyMaster); return old == "" })
	}
	v.put("services/vault", `{"service":"vault","version":2,"config":{"port":2,"password":"battery staple"}}`)
}

// says waits until the sidecar's health, its metrics, its log and the status of the
// cluster tell of the secret that is missing, and why.
func (v *vaulted) says(why ...string) {
	v.t.Helper()
	has := func(text string) bool {
		for _, w := range append(why, "password of vault", "holdfast cluster remove side", "--role sidecar --service vault") {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	}
	v.side.Await("the word of it in the health, with the way out", func() bool {
		h := v.side.Health()
		return !h.OK && h.OperationalMode == conf.ModeNormal && h.Err != nil && has(*h.Err)
	})
	for _, url := range []string{v.side.Info().AdminURL + "/api/config/health", v.side.Info().LocalURL + "/healthz"} {
		if code, _, body := v.side.Call("GET", url, ""); code != http.StatusOK || !has(body) {
			v.t.Errorf("%s: %d %s", url, code, body)
		}
	}
	if _, _, body := v.side.Call("GET", v.side.Info().LocalURL+"/metrics", ""); !strings.Contains(body, "\nholdfast_secrets_unopened 1\n") {
		v.t.Error("not in the metrics")
	}
	st, err := v.n1.Rooms().Cluster.Status(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	for _, n := range st.Nodes {
		if n.NodeID == "side" && !has(n.Err) {
			v.t.Errorf("the status of the cluster says %q", n.Err)
		}
	}
	if code, _, body := v.side.Call("GET", v.side.Info().LocalURL+"/readyz", ""); code != http.StatusOK {
		v.t.Errorf("it serves what it can, and is not ready: %s", body)
	}
	if got := v.read(); strings.Contains(got, "battery") || strings.Contains(got, "correct") || !strings.Contains(got, `"port":`) {
		v.t.Errorf("it serves %s", got)
	}
}

// whole waits until nothing is missing.
func (v *vaulted) whole(secret string) {
	v.t.Helper()
	v.side.Await("its secret", func() bool { return strings.Contains(v.read(), secret) })
	v.side.Await("a good health", func() bool { return v.side.Health().OK })
	if _, _, body := v.side.Call("GET", v.side.Info().LocalURL+"/metrics", ""); !strings.Contains(body, "\nholdfast_secrets_unopened 0\n") {
		v.t.Error("the metrics say that something is missing")
	}
}

// A sidecar that was away for two rotations of the master key has nothing left under
// which the key in use could be handed on: it gets that as when it joined.
func TestSidecarMissedTwoRotations(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	v.join(`{"role":"sidecar","service":"vault"}`)
	v.whole("correct horse")
	v.side.Stop()
	v.rotateTwice()
	v.start()
	v.whole("battery staple")
	active := testStatus{v.n1.keyring()}.active(conf.KeyMaster)
	if main, old := v.side.Rooms().Keys.Set().IDs(conf.KeyMaster); main != active {
		t.Errorf("it holds %s and %s, and %s is in use", main, old, active)
	}
	v.n1.Await("a row of it in the access log", func() bool {
		_, _, body := v.n1.Call("GET", v.n1.Info().AdminURL+"/api/config/access", "", "X-API-Token", testenv.WriteToken)
		return strings.Contains(body, "received the key of vault under the master key "+active+" anew")
	})
	v.side.Stop() // it holds it from now on
	v.start()
	v.whole("battery staple")
}

// When no server knows for what it was admitted, it says what is missing, why, and the
// way out, and goes on with what it can read. What it gets later makes that whole.
func TestSidecarWithoutItsKey(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	v.join(`{"role":"sidecar","service":"vault","uses":1}`)
	v.whole("correct horse")
	v.side.Stop()
	before := v.n1.Rooms().Keys.Set()
	v.rotateTwice()
	many := &command.Cluster{At: conf.FormatTime(time.Now()), By: "test"}
	for i := range 1000 { // they push out the token that let it in
		many.Tokens = append(many.Tokens, command.JoinToken{
			ID: fmt.Sprintf("many%04d", i), SecretHash: strings.Repeat("ab", 32), Role: conf.MemberSidecar, ExpiresAt: conf.FormatTime(time.Now().Add(-time.Hour)), CreatedBy: "test", Uses: 1,
		})
	}
	if res, err := v.n1.Rooms().Replicas.Current().Node().Propose(t.Context(), many); err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	v.start()
	v.side.Await("the newest plain value", func() bool { return strings.Contains(v.read(), `"port":2`) })
	v.says("missed more than one rotation", testStatus{v.n1.keyring()}.active(conf.KeyMaster))
	v.n1.Await("the word of it in the status of the keys, with the way out", func() bool {
		for _, m := range v.n1.keyring().Members {
			e := m.Holds[conf.KeyMaster].Err
			if m.NodeID == "side" && strings.Contains(e, "missed more than one rotation") && strings.Contains(e, "holdfast cluster remove side") &&
				strings.Contains(e, "--role sidecar --service vault") {
				return true
			}
		}
		return false
	})

	// A server that still has the key of before comes: the secret is there at once, though
	// its record does not change.
	v.side.Await("its secret", func() bool {
		set := v.n1.Rooms().Keys.Set()
		set.OldMaster, set.OldMasterID = before.Master, before.MasterID // until it looks at its .env file again
		v.n1.Rooms().Holder.Store(set)
		return strings.Contains(v.read(), "battery staple")
	})
	v.whole("battery staple")
}

// A sidecar that was let in for no service has no key, whatever it says of itself: it
// tells that its documents lack something, and is given nothing.
func TestSidecarOfNoService(t *testing.T) {
	t.Parallel()
	v := newVaulted(t)
	v.join(`{"role":"sidecar"}`)
	v.says("admitted for no service")
	v.n1.Await("its own word in its row", func() bool {
		for _, m := range v.n1.Rooms().Cluster.Members() {
			if m.NodeID == "side" && m.Service == "vault" {
				return true
			}
		}
		return false
	})
	err := v.side.Rooms().Cluster.Call(t.Context(), "n1", "/keys/granted?id="+testStatus{v.n1.keyring()}.active(conf.KeyMaster), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "admitted for no service") {
		t.Errorf("it asked for the key of the service that it claims: %v", err)
	}
}
