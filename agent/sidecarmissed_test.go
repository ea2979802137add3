package agent

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// A sidecar that was away for two rotations of the master key has nothing left by
// which it could receive the key in use. It says so, with the way out, and goes on
// with what it can read.
func TestSidecarMissedTwoRotations(t *testing.T) {
	n1 := start(t, options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t), "CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})).ready()
	put := func(path, body string) {
		t.Helper()
		if code, _, answer := n1.call("PUT", n1.Info().AdminURL+"/api/config/"+path, body, "X-API-Token", "writer-token", "Content-Type", "application/json"); code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, code, answer)
		}
	}
	put("schemas/vault", `{"type":"object","properties":{"port":{"type":"integer"},"password":{"type":"string","x-secret":true,"x-secret-source":"database"}}}`)
	put("services/vault", `{"service":"vault","version":1,"config":{"port":1,"password":"correct horse"}}`)
	n1.await("a keyring", func() bool { return testStatus{n1.keyring()}.active(conf.KeyMaster) != "" })

	code, _, body := n1.call("POST", n1.Info().AdminURL+"/api/config/cluster/tokens", `{"role":"sidecar","service":"vault"}`, "X-API-Token", "writer-token", "Content-Type", "application/json")
	if code != http.StatusOK {
		t.Fatal(code, body)
	}
	token := body[strings.Index(body, "HF1"):]
	o := joining(t, n1, "side", token[:strings.IndexByte(token, '"')])
	o.ServiceName = "vault"
	side := start(t, o).ready()
	read := func() string {
		t.Helper()
		proof, err := os.ReadFile(o.localTokenFile())
		if err != nil {
			t.Fatal(err)
		}
		_, _, body := side.call("GET", side.Info().LocalURL+"/v1/config/vault", "", "X-Holdfast-Token", strings.TrimSpace(string(proof)))
		return body
	}
	side.await("its secret", func() bool { return strings.Contains(read(), "correct horse") })
	side.halt()
	for range 2 {
		rot, code, body := n1.changeKey(conf.KeyMaster, "rotate")
		if code != http.StatusOK {
			t.Fatal(code, body)
		}
		n1.await("the end of the old key", func() bool {
			_, code, _ := n1.changeKey(conf.KeyMaster, "retire")
			return code == http.StatusOK && testStatus{n1.keyring()}.active(conf.KeyMaster) == rot.KeyID
		})
		n1.await("one key at the server", func() bool { _, old := n1.sup.keys.Get().IDs(conf.KeyMaster); return old == "" })
	}
	put("services/vault", `{"service":"vault","version":2,"config":{"port":2,"password":"battery staple"}}`)

	side = start(t, o).ready()
	side.await("the newest plain value", func() bool { return strings.Contains(read(), `"port":2`) })
	n1.await("the word of it in the status, with the way out", func() bool {
		for _, m := range n1.keyring().Members {
			e := m.Holds[conf.KeyMaster].Err
			if m.NodeID == "side" && strings.Contains(e, "missed more than one rotation") && strings.Contains(e, "holdfast cluster remove side") &&
				strings.Contains(e, "--role sidecar --service vault") {
				return true
			}
		}
		return false
	})
	if got := read(); strings.Contains(got, "battery staple") || !strings.Contains(got, `"port":2`) {
		t.Errorf("it serves %s", got)
	}
}
