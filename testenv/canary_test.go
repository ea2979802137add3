package testenv

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func TestHuntFinds(t *testing.T) {
	t.Parallel()
	for _, c := range []Canary{NewCanary("text"), NewNumberCanary("number")} {
		for form, text := range c.Forms() {
			h := Hunt{Canaries: []Canary{c}}
			h.Look(form, []byte("something before "+text+" and behind"))
			if len(h.Hits) == 0 {
				t.Errorf("%s: not found in %s: %s", c.Name, form, text)
			}
		}
		h := Hunt{Canaries: []Canary{c}}
		if h.Look("another", []byte(NewCanary("x").Value)); len(h.Hits) > 0 {
			t.Errorf("found what is not there: %v", h.Hits)
		}
	}
}

const vaultSchema = `{"type":"object","additionalProperties":false,"properties":{
 "name":{"type":"string","default":"unnamed"},
 "api_key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"VAULT_API_KEY"},
 "token":{"type":"string","x-secret":true,"maxLength":200},
 "gone":{"type":"string","x-secret":true},
 "pin":{"type":"integer","x-secret":true},
 "db":{"type":"object","additionalProperties":false,"properties":{"host":{"type":"string","default":"h"},"password":{"type":"string","x-secret":true}}}}}`

// beside joins a sidecar for one service.
func (c *Cluster) beside(service string, env ...string) *Node {
	c.t.Helper()
	n := c.NewNode(conf.MemberSidecar, env...)
	n.Set("CONFIG_SERVICE_NAME", service)
	n.Paste(c.Nodes[0].TokenCommand("--role", conf.MemberSidecar, "--service", service))
	n.AwaitUp()
	return n
}

// proof is the header that opens the secrets of the local API.
func (n *Node) proof() string {
	n.t.Helper()
	data, err := os.ReadFile(n.Path("local-token"))
	if err != nil {
		n.t.Fatal(err)
	}
	return "X-Holdfast-Token: " + strings.TrimSpace(string(data))
}

// overhear collects all that a broker sends.
func overhear(t *testing.T, addr string) func() []byte {
	t.Helper()
	var mu sync.Mutex
	var all []byte
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("canary").SetConnectTimeout(Patience).SetPingTimeout(Patience)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		all = append(append(append(all, m.Topic()...), ' '), m.Payload()...)
	})
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(Patience) || token.Error() != nil {
		t.Fatalf("MQTT: %v", token.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	if token := c.Subscribe("system/#", 1, nil); !token.WaitTimeout(Patience) || token.Error() != nil {
		t.Fatalf("MQTT: %v", token.Error())
	}
	return func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return append([]byte(nil), all...)
	}
}

// TestCanaries sets, changes, forwards, reveals, refuses and removes secrets in a
// cluster of real processes, and then looks for them in every file, log, message
// and answer. Only a read that proved itself, and a reveal, have them.
func TestCanaries(t *testing.T) {
	t.Parallel()
	env, text, changed, doc, pin, gone, wrong := NewCanary("from the environment"), NewCanary("set"), NewCanary("changed"), NewCanary("in a document"),
		NewNumberCanary("number"), NewCanary("removed"), NewCanary("refused")
	number := NewNumberCanary("refused number")
	hunt := &Hunt{Canaries: []Canary{env, text, changed, doc, pin, gone, wrong, number}}

	broker := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	c := NewCluster(t, "CONFIG_MANAGER_LOG_LEVEL=DEBUG", "VAULT_API_KEY="+env.Value)
	c.Join(conf.MemberServer, "CONFIG_MQTT_ADDR="+broker)
	c.Join(conf.MemberServer)
	c.Join(conf.MemberServer)
	c.AwaitVoters(3)
	heard := overhear(t, broker)
	leader, followers := c.Servers()
	follower := followers[0]

	const route = "/api/config/services/vault"
	leader.Try("PUT", "/api/config/schemas/vault", vaultSchema).OK(t)
	leader.Try("PUT", "/api/config/schemas/other", `{"type":"object","properties":{"token":{"type":"string","x-secret":true}}}`).OK(t)
	side := c.beside("vault") // ready as soon as its service exists
	version := func() uint64 {
		var d conf.ReadResponse
		leader.Try("GET", route+"?consistent=1", "").Into(t, &d)
		return d.Metadata.Version
	}
	// Set and changed: on the leader, through a follower, through the sidecar, in documents.
	leader.Try("PUT", route+"/secrets/token", `{"value":`+text.JSON()+`,"reason":"first"}`).OK(t)
	follower.Try("PUT", route+"/secrets/token", `{"value":`+changed.JSON()+`}`).OK(t)
	side.Try("PUT", route+"/secrets/gone", `{"value":`+gone.JSON()+`}`).OK(t)
	follower.Try("PATCH", route, `{"name":"n","db":{"password":`+doc.JSON()+`}}`).OK(t)
	side.Try("PUT", route, fmt.Sprintf(`{"service":"vault","config":{"name":"m","pin":%s},"version":%d}`, pin.Value, version())).OK(t)
	leader.Try("PUT", "/api/config/services/other/secrets/token", `{"value":`+text.JSON()+`}`).OK(t)
	follower.Try("DELETE", route+"/secrets/gone", "").OK(t)
	leader.Try("PUT", "/api/config/profiles/night", "", "X-Config-Reason: all of it").OK(t)
	leader.Try("POST", "/api/config/profiles/night/activate", "").OK(t)

	// Refused: nothing that comes back, and no log, repeats what was sent.
	refused := func(n *Node, status int, method, path, body string) {
		t.Helper()
		r := n.Try(method, path, body).Want(t, status, "")
		hunt.Look("refusal of "+method+" "+path, append([]byte(fmt.Sprint(r.Header)), r.Body...))
	}
	for _, n := range []*Node{leader, follower, side} {
		refused(n, 422, "PUT", route+"/secrets/token", `{"value":[`+wrong.JSON()+`]}`)
		refused(n, 422, "PUT", route+"/secrets/token", `{"value":`+number.Value+`}`)
		refused(n, 400, "PUT", route+"/secrets/token", `{"value":`+number.Value+number.Value+`}`)
		refused(n, 422, "PUT", route+"/secrets/pin", `{"value":`+wrong.JSON()+`}`)
		refused(n, 422, "PUT", route+"/secrets/token", `{"value":"`+strings.Repeat("x", 200)+wrong.JSON()[1:]+`}`)
		refused(n, 409, "PUT", route+"/secrets/api_key", `{"value":`+wrong.JSON()+`}`)
		refused(n, 409, "PATCH", route, `{"api_key":`+wrong.JSON()+`}`)
		refused(n, 400, "PUT", route+"/secrets/token", `{"value":`+wrong.JSON())
		refused(n, 400, "PUT", route+"/secrets/token", `{"value":`+wrong.JSON()+`,"more":1}`)
		refused(n, 422, "PATCH", route, `{"db":{"password":{"x":`+wrong.JSON()+`}}}`)
		refused(n, 422, "PATCH", route, `{"db":`+wrong.JSON()+`}`)
		refused(n, 422, "PATCH", route, `{"nme":`+wrong.JSON()+`}`)
		refused(n, 422, "POST", route+"/validate", `{"mode":"patch","config":{"token":[`+wrong.JSON()+`]}}`)
		refused(n, 409, "PUT", route, `{"service":"vault","config":{"token":`+wrong.JSON()+`},"version":1}`)
	}
	r := Do("PUT", "http://"+follower.AdminAddr+route+"/secrets/token", `{"value":`+wrong.JSON()+`}`, "X-API-Token: "+ReadToken)
	hunt.Look("refusal of a reader", r.Want(t, 403, conf.CodeDenied).Body)

	// Revealed, with who and why in the access log of every agent.
	for _, n := range []*Node{leader, follower, side} {
		var got struct{ Value string }
		n.Try("POST", route+"/secrets/token/reveal", `{"reason":"the test on `+n.ID+`"}`).Into(t, &got)
		if got.Value != changed.Value {
			t.Errorf("%s reveals %q, want %q", n.ID, got.Value, changed.Value)
		}
		Await(t, "the access log to have it", func() bool {
			var log conf.AccessPage
			leader.Admin("GET", "/api/config/access?action=reveal_secret", "").Into(t, &log)
			return len(log.Results) > 0 && log.Results[0].Reason == "the test on "+n.ID && log.Results[0].Key == "token" && log.Results[0].Success
		})
	}

	// Read: by who proves itself all of it, else nothing.
	for _, n := range c.Nodes {
		var full Document
		Await(t, n.ID+" to serve all secrets", func() bool {
			full = Document{}
			r := n.Local("/v1/config/vault", n.proof())
			return r.Status == http.StatusOK && json.Unmarshal(r.Body, &full) == nil && strings.Contains(string(full.Config), changed.core) &&
				!strings.Contains(string(full.Config), gone.core) && strings.Contains(string(full.Config), pin.core)
		})
		want := &Hunt{Canaries: []Canary{env, changed, doc, pin}}
		for _, canary := range want.Canaries {
			own := &Hunt{Canaries: []Canary{canary}}
			if own.Look("", full.Config); len(own.Hits) == 0 {
				t.Errorf("%s does not serve the secret %q: %s", n.ID, canary.Name, full.Config)
			}
		}
		other := n.Local("/v1/config/other", n.proof()).OK(t)
		if has := strings.Contains(string(other.Body), text.core); has != (n != side) {
			t.Errorf("%s serves the secret of another service: %t", n.ID, has)
		}
		for _, path := range []string{
			"/v1/config/vault", "/v1/config/vault/token", "/v1/config/vault/db", "/v1/env/vault", "/v1/config/vault?explain=1", "/v1/config/other",
			"/v1/keys", "/healthz", "/readyz", "/metrics",
		} {
			r := n.Local(path)
			hunt.Look(n.ID+" "+path, append([]byte(fmt.Sprint(r.Header)), r.Body...))
		}
		for _, path := range []string{
			"/api/config/health", "/openapi.json", "/api/config/me", "/api/config/services", route, route + "?values=stored", route + "?explain=1",
			route + "?values=stored&version=2", route + "/versions", route + "/secrets", "/api/config/history?limit=1000", "/api/config/schemas",
			"/api/config/schemas/vault", "/api/config/profiles", "/api/config/profiles/night", "/api/config/access?limit=1000", "/api/config/tokens",
			"/api/config/cluster", "/api/config/cluster/tokens",
		} {
			r := n.Try("GET", path, "")
			if r.Status != http.StatusOK {
				t.Errorf("%s GET %s: %s", n.ID, path, r)
			}
			hunt.Look(n.ID+" "+path, append([]byte(fmt.Sprint(r.Header)), r.Body...))
		}
		r := n.Admin("POST", "/api/config/search", `{"query":""}`).OK(t)
		hunt.Look(n.ID+" search", r.Body)
	}
	stolen(t, side, text.Value)

	// All of them again, from the last-known-good file alone.
	follower.Kill()
	follower.Start()
	follower.AwaitUp()
	Await(t, "the secret to be there after a restart", func() bool {
		return strings.Contains(string(follower.Local("/v1/config/vault", follower.proof()).Body), changed.core)
	})
	side.Stop()

	Await(t, "MQTT to have carried the last version", func() bool { return strings.Contains(string(heard()), "system/config/vault") })
	hunt.Look("MQTT", heard())
	for _, n := range c.Nodes[:3] {
		hunt.LookTree(t, n.Dir) // while SQLite's log is there
		if err := syscall.Kill(-n.proc.Pid(), syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		n.proc.Wait(t, n.ID+" to end with a dump of its goroutines")
		if !strings.Contains(n.Log(), "SIGQUIT: quit") || strings.Count(n.Log(), "\ngoroutine ") < 10 {
			t.Errorf("%s left no dump", n.ID)
		}
	}
	for _, n := range c.Nodes {
		hunt.LookTree(t, n.Dir)
		hunt.Look(n.ID+" log", []byte(n.Log()))
		if !strings.Contains(n.Log(), "level=DEBUG") && !strings.Contains(n.Log(), "DBG") && !strings.Contains(n.Log(), "DEBUG") {
			t.Errorf("%s does not log at DEBUG", n.ID)
		}
	}
	for _, hit := range hunt.Hits {
		t.Error(hit)
	}
	if hunt.Bytes < 1<<20 || hunt.Places < 100 {
		t.Errorf("only %d bytes of %d places were searched", hunt.Bytes, hunt.Places)
	}
	t.Logf("%d bytes of %d places searched for %d values in %d forms: %d hits", hunt.Bytes, hunt.Places, len(hunt.Canaries), len(text.needles()), len(hunt.Hits))
}

// stolen takes what the directory of a sidecar has, keys and all, and opens what it
// can: the secrets of its own service, and no other's.
func stolen(t *testing.T, side *Node, others string) {
	t.Helper()
	envFile, err := os.ReadFile(side.EnvFile())
	if err != nil {
		t.Fatal(err)
	}
	var found [][]byte
	for line := range strings.Lines(string(envFile)) {
		_, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key, err := base64.StdEncoding.DecodeString(strings.Trim(value, `"'`)); err == nil && len(key) == 32 {
			found = append(found, key)
		}
	}
	if len(found) < 2 || strings.Contains(string(envFile), "CONFIG_MASTER_KEY") {
		t.Fatalf("the sidecar has %d keys, and the master key: %t", len(found), strings.Contains(string(envFile), "CONFIG_MASTER_KEY"))
	}
	var file *lkg.Content
	sealed := map[string][]conf.SealedSecret{}
	Await(t, "the sidecar's last-known-good file to have all secrets", func() (ok bool) {
		if file, err = side.LastKnownGood(); err != nil {
			return false
		}
		for _, r := range file.Records {
			sealed[r.Service] = r.Secrets
		}
		return len(sealed["vault"]) == 3 && len(sealed["other"]) == 1
	})
	opened := map[string]int{}
	for service, secrets := range sealed {
		for _, sealed := range secrets {
			id := seal.SecretID{Epoch: file.Epoch, Service: service, Key: sealed.Key, KeyID: sealed.KeyID}
			tries := append([][]byte(nil), found...)
			for _, k := range found { // as if one of them were the master key
				for _, of := range []string{service, "vault", "other"} {
					if derived, err := seal.Derive(k, of, sealed.KeyID); err == nil {
						tries = append(tries, derived)
					}
				}
			}
			for _, k := range tries {
				for _, as := range []string{"vault", "other"} {
					id.Service = as
					if plain, err := seal.OpenSecret(k, id, sealed.Value); err == nil {
						opened[service]++
						var text string
						if json.Unmarshal(plain, &text) == nil && service == "other" || text == others {
							t.Errorf("the sidecar opens %s of %s", sealed.Key, service)
						}
					}
				}
			}
		}
	}
	if opened["vault"] != 3 || opened["other"] != 0 {
		t.Errorf("a stolen sidecar of vault opens %v", opened)
	}
}
