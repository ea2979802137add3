package testenv

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const sealedService = "sealed"

// sealedSecrets is how many secrets the service has whose reads are watched.
const sealedSecrets = 60

// giveSecrets stores secrets for the readers of them.
func giveSecrets(t *testing.T, n *Node) {
	t.Helper()
	props, doc := map[string]any{}, map[string]any{}
	for i := range sealedSecrets {
		name := fmt.Sprintf("s%d", i)
		props[name] = map[string]any{"type": "string", "x-secret": true, "x-secret-source": "database"}
		doc[name] = secretValue(name)
	}
	n.Try("PUT", "/api/config/schemas/"+sealedService, jsonText(map[string]any{"type": "object", "properties": props}), "Content-Type: application/json").OK(t)
	n.Try("PUT", "/api/config/services/"+sealedService, jsonText(map[string]any{"service": sealedService, "config": doc, "version": 1}), "Content-Type: application/json").OK(t)
}

func secretValue(name string) string { return "the value of " + name }

// readSecrets has each read of the secrets at a node give all of them.
func (l *Load) readSecrets(n *Node) {
	var token string
	for l.wait(20 * time.Millisecond) {
		life, ok := n.Alive()
		if !ok {
			continue
		}
		if token == "" {
			data, err := os.ReadFile(n.Path("local-token"))
			if err != nil {
				continue
			}
			token = strings.TrimSpace(string(data))
		}
		reply := l.request("GET", "http://"+n.LocalAddr+"/v1/config/"+sealedService, "", "X-Holdfast-Token", token)
		if now, _ := n.Alive(); now != life || l.ctx.Err() != nil {
			continue
		}
		l.count("reads of secrets")
		var d struct {
			Config map[string]string `json:"config"`
		}
		if reply.Err != nil || reply.Status != http.StatusOK || json.Unmarshal(reply.Body, &d) != nil {
			l.Problem("a read of the secrets at %s failed: %s", n.ID, reply)
			continue
		}
		for i := range sealedSecrets {
			if name := fmt.Sprintf("s%d", i); d.Config[name] != secretValue(name) {
				l.Problem("a read at %s gives %q for the secret %s", n.ID, d.Config[name], name)
				break
			}
		}
	}
}

// KeyRing is the answer of a node about the keys.
func (n *Node) KeyRing() (st conf.KeysStatus, ok bool) {
	reply := n.Admin("GET", "/api/config/keys", "")
	return st, reply.Err == nil && reply.Status == http.StatusOK && json.Unmarshal(reply.Body, &st) == nil
}

// rotation asks for a change of a key.
func (a *Agent) rotation(kind, change string) (r conf.KeyRotation) {
	a.t.Helper()
	a.Try("POST", "/api/config/keys/"+kind+"/"+change, "").Into(a.t, &r)
	return r
}

func activeKey(st conf.KeysStatus, kind string) string {
	for _, k := range st.Keys {
		if k.Kind == kind && k.State == conf.KeyActive {
			return k.ID
		}
	}
	return ""
}

// rotated says whether a key is in use, and everything made again.
func rotated(st conf.KeysStatus, kind, id string) bool {
	if activeKey(st, kind) != id {
		return false
	}
	for _, r := range st.Rotations {
		if r.Kind == kind && r.Phase != conf.PhaseGrace {
			return false
		}
	}
	return true
}

// TestRotationUnderLoad rotates each key while clients write and read, and kills the
// leader in the middle of it: no read fails, nothing acknowledged is lost, and the
// rotation comes to its end.
func TestRotationUnderLoad(t *testing.T) {
	c := NewCluster(t, "CONFIG_KEY_ROTATION_GRACE_MINUTES=0.05")
	for range 3 {
		c.Join("server")
	}
	c.AwaitVoters(3)
	giveSecrets(t, c.Leader()) // before the sidecar: it is up when it serves its service
	side := c.NewNode("sidecar", "CONFIG_SERVICE_NAME="+sealedService)
	side.Paste(c.Nodes[0].TokenCommand("--role", "sidecar", "--service", sealedService))
	side.AwaitUp()
	for _, n := range c.Nodes {
		n.AwaitServing(sealedService)
	}
	o := LoadOptions{Seed: 5, Retry: true, Pause: 90 * time.Millisecond}
	readers := 1
	if os.Getenv("HOLDFAST_FULL_LOAD") != "" { // 20 writes/s and 500 reads/s want a machine for themselves
		o.Clients, o.Pause, readers = 24, 60*time.Millisecond, 4
	}
	l := StartLoad(t, c, o)
	for _, n := range c.Nodes {
		for range readers {
			l.wg.Go(func() { l.readSecrets(n) })
		}
	}
	began := time.Now()
	for _, kind := range conf.KeyKinds() {
		l.AwaitWrites(20)
		var was conf.KeysStatus
		Await(t, "the keyring", func() (ok bool) { was, ok = c.Leader().KeyRing(); return ok && activeKey(was, kind) != "" })
		start := time.Now()
		var r conf.KeyRotation
		Await(t, "the rotation of "+kind+" to begin", func() bool {
			reply := c.Followers()[0].Admin("POST", "/api/config/keys/"+kind+"/rotate?reason=test", "")
			return reply.Err == nil && reply.Status == http.StatusOK && json.Unmarshal(reply.Body, &r) == nil
		})
		leader := c.Leader()
		leader.Kill() // the new key is announced, and may be nowhere else
		l.AwaitWrites(10)
		leader.Start()
		leader.AwaitUp()
		Await(t, "the rotation of "+kind, func() bool {
			st, ok := c.Nodes[0].KeyRing()
			return ok && rotated(st, kind, r.KeyID)
		})
		t.Logf("%s: %s to %s in %v", kind, activeKey(was, kind), r.KeyID, time.Since(start).Round(10*time.Millisecond))
	}
	Await(t, "the end of all old keys", func() bool {
		st, ok := c.Nodes[0].KeyRing()
		return ok && len(st.Rotations) == 0
	})
	Await(t, "traffic that means something", func() bool {
		return l.Count("reads") >= 1000 && l.Count("reads of secrets") >= 300 && l.Acknowledged() >= 120
	})
	took := time.Since(began).Seconds()
	c.CheckInvariants(t, l)
	t.Logf("%s; %.0f reads/s, %.0f reads of secrets/s, %.1f writes/s", l.Counts(), float64(l.Count("reads"))/took,
		float64(l.Count("reads of secrets"))/took, float64(l.Acknowledged())/took)
	for _, n := range c.Nodes {
		Await(t, "the old keys to be gone from the .env file of "+n.ID, func() bool {
			data, err := os.ReadFile(n.EnvFile())
			if err != nil {
				t.Fatal(err)
			}
			return !strings.Contains(string(data), "OLD")
		})
	}
}
