package agent_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// Without a leader every kind of agent says the same of itself, and takes it back when
// there is one again.
func TestHealthWithoutALeader(t *testing.T) {
	t.Parallel()
	o1 := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})
	n1 := start(t, o1).ready()
	n2 := start(t, joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)).ready()
	o3 := joining(t, n1, "n3", n1.joinToken(conf.MemberServer).Token)
	o3.MQTTAddr = "127.0.0.1:0"
	n3 := start(t, o3).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()
	if code, body := n1.set("42"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	n1.Await("three voters", func() bool { return n1.status().Voters == 3 })
	observer := observe(t, testenv.Options(t, map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo",
		"CONFIG_TRUST":       base64.StdEncoding.EncodeToString(n1.Rooms().Keys.Set().Public),
		"CONFIG_OBSERVE_URL": "mqtt://" + n3.Rooms().Broker.Addr().String(),
	}))
	kinds := map[string]func() conf.Health{"server": n3.Health, "sidecar": side.Health, "observer": observer.Health}
	await := func(what string, ok bool, mode conf.Mode) {
		t.Helper()
		for kind, health := range kinds {
			n3.Await("the "+kind+" to be "+string(mode)+" "+what, func() bool {
				h := health()
				return h.OK == ok && h.OperationalMode == mode && (h.Err == nil) == ok
			})
			if h := health(); !ok && (h.Err == nil || !strings.Contains(*h.Err, "leader")) {
				t.Errorf("%s: the health does not say why: %+v", kind, h)
			}
		}
	}
	await("with a leader", true, conf.ModeNormal)
	n1.Stop()
	n2.Stop()
	await("without one", false, conf.ModeReadOnly)
	for kind, get := range map[string]func(string) (int, http.Header, string){"observer": observer.get} {
		if code, _, body := get("/readyz"); code != http.StatusOK {
			t.Errorf("%s: not ready although it serves: %d %s", kind, code, body)
		}
	}
	start(t, o1)
	await("with a leader again", true, conf.ModeNormal)
}

// An agent is ready when the service beside it can start.
func TestNotReadyWithoutItsService(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	o := joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
	o.ServiceName = "later"
	side := start(t, o).ready()
	ready := func() (int, string) {
		code, _, body := side.Call("GET", side.Info().LocalURL+"/readyz", "")
		return code, body
	}
	if code, body := ready(); code != http.StatusServiceUnavailable || !strings.Contains(body, "later") || !strings.Contains(body, "hint") {
		t.Fatalf("ready without its service: %d %s", code, body)
	}
	if code, _, body := n1.Call("PUT", n1.Info().AdminURL+"/api/config/schemas/later", testenv.Demo, "X-API-Token", testenv.WriteToken); code != http.StatusOK {
		t.Fatal(code, body)
	}
	side.Await("it to be ready with its service", func() bool { code, _ := ready(); return code == http.StatusOK })
}
