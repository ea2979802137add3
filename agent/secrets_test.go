package agent_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

const vaultSchema = `{"type":"object","additionalProperties":false,"properties":{
 "name":{"type":"string","default":"unnamed"},
 "api_key":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"DEMO_KEY"},
 "pin":{"type":"integer","x-secret":true},
 "db":{"type":"object","properties":{"password":{"type":"string","x-secret":true}}}}}`

func (r *running) admin(method, path, body string) (int, string) {
	r.T.Helper()
	code, _, out := r.Call(method, r.Info().AdminURL+"/api/config/"+path, body, "X-API-Token", testenv.WriteToken)
	return code, out
}

func (r *running) must(method, path, body string) string {
	r.T.Helper()
	code, out := r.admin(method, path, body)
	if code != http.StatusOK {
		r.T.Fatalf("%s %s: %d %s", method, path, code, out)
	}
	return out
}

// secret is what a service that proves itself reads, and where it came from.
func (r *running) secret(path string) (string, string) {
	r.T.Helper()
	token, err := os.ReadFile(r.Options.LocalTokenFile())
	if err != nil {
		r.T.Fatal(err)
	}
	_, h, body := r.Call("GET", r.Info().LocalURL+path, "", "X-Holdfast-Token", strings.TrimSpace(string(token)))
	return body, h.Get("X-Config-Source")
}

// keepSecret stores a schema with secrets, and one of them.
func (r *running) keepSecret() {
	r.T.Helper()
	r.must("PUT", "schemas/vault", vaultSchema)
	r.must("PUT", "services/vault/secrets/db.password", `{"value":"canary-secret-value"}`)
}

const passwordPath = "/v1/config/vault/db.password"

// A stored secret outlives a restart, the replica, and the epoch.
func TestSecretsOutliveTheStore(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	r.keepSecret()
	r.must("PUT", "services/vault/secrets/pin", `{"value":4711}`)
	if v, _ := r.secret(passwordPath); v != `"canary-secret-value"` {
		t.Fatal(v)
	}
	if _, _, body := r.Call("GET", r.Info().LocalURL+passwordPath, ""); !strings.Contains(body, `"unauthenticated"`) || strings.Contains(body, "canary") {
		t.Fatalf("a stranger: %s", body)
	}
	epoch := r.Health().ConfigEpoch
	before := r.records().Record("vault")
	r.Stop()
	damage(t, o)

	r = start(t, o) // from the last-known-good file
	r.Await("the damage", func() bool { return r.Health().DatabaseStatus == conf.DatabaseCorrupted })
	if v, src := r.secret(passwordPath); v != `"canary-secret-value"` || src != "lkg" {
		t.Fatalf("%s from %s", v, src)
	}
	if code, body := r.admin("POST", "services/vault/secrets/pin/reveal", `{"reason":"r"}`); code != http.StatusServiceUnavailable || strings.Contains(body, "4711") {
		t.Fatalf("revealed without a replica: %d %s", code, body)
	}
	if code, _, body := r.Call("POST", r.Info().AdminURL+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`); code != http.StatusOK {
		t.Fatal(body)
	}
	r.ready()
	if r.Health().ConfigEpoch == epoch {
		t.Fatal("no new epoch")
	}
	after := r.records().Record("vault")
	if len(after.Secrets) != 2 || after.Secrets[0].Value == before.Secrets[0].Value || after.Secrets[0].UpdatedAt != before.Secrets[0].UpdatedAt {
		t.Fatalf("before %+v, after %+v", before.Secrets, after.Secrets)
	}
	if v, src := r.secret(passwordPath); v != `"canary-secret-value"` || src != "replica" {
		t.Fatalf("%s from %s", v, src)
	}
	if body := r.must("POST", "services/vault/secrets/pin/reveal", `{"reason":"r"}`); !strings.Contains(body, `"value":4711`) {
		t.Fatal(body)
	}
	r.Stop()
	r = start(t, o).ready()
	if v, _ := r.secret("/v1/config/vault/pin"); v != "4711" {
		t.Fatal(v)
	}
}

// The environment comes before what is stored, and that before the default.
func TestPrecedenceAndItsExplanation(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	stored := strings.Replace(vaultSchema, `"x-secret-source":"env","x-env":"DEMO_KEY"`, `"x-secret-source":"database"`, 1)
	r.must("PUT", "schemas/vault", stored)
	r.must("PUT", "services/vault/secrets/api_key", `{"value":"a stored one"}`)
	r.must("PATCH", "services/vault", `{"name":"n"}`)
	explain := func(path string) conf.Explanation {
		t.Helper()
		body, _ := r.secret(path)
		if strings.HasPrefix(path, "services/") {
			body = r.must("GET", path, "")
		}
		var x conf.Explanation
		if err := json.Unmarshal([]byte(body), &x); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return x
	}
	field := func(x conf.Explanation, key string) conf.Explained {
		t.Helper()
		for _, f := range x.Fields {
			if f.Key == key {
				return f
			}
		}
		t.Fatalf("no %s in %+v", key, x)
		return conf.Explained{}
	}
	if v, _ := r.secret("/v1/config/vault/api_key"); v != `"a stored one"` {
		t.Fatal(v)
	}
	r.must("PUT", "schemas/vault", vaultSchema) // it comes from the environment from now on
	if v, _ := r.secret("/v1/config/vault/api_key"); v != `"canary-secret-value"` {
		t.Fatal(v)
	}

	x := explain("/v1/config/vault?explain=1")
	f := field(x, "api_key")
	if f.Winner.Source != conf.SourceEnv || f.Winner.Env != "DEMO_KEY" || string(f.Winner.Value) != `"canary-secret-value"` ||
		len(f.Shadows) != 1 || f.Shadows[0].Source != conf.SourceDatabase || string(f.Shadows[0].Value) != `"a stored one"` || f.Shadows[0].KeyID == "" {
		t.Errorf("%+v", f)
	}
	name := field(x, "name")
	if name.Winner.Source != conf.SourceDatabase || string(name.Winner.Value) != `"n"` || name.Winner.Version != 3 || !strings.HasPrefix(name.Winner.UpdatedBy, "token") ||
		name.Winner.UpdatedAt == "" || len(name.Shadows) != 1 || name.Shadows[0].Source != conf.SourceDefault || string(name.Shadows[0].Value) != `"unnamed"` {
		t.Errorf("%+v", name)
	}
	if pin := field(x, "pin"); pin.Winner != nil || len(pin.Shadows) != 0 {
		t.Errorf("%+v", pin)
	}
	// The same for anybody else, without the values of secrets.
	admin := r.must("GET", "services/vault?explain=1", "")
	_, _, stranger := r.Call("GET", r.Info().LocalURL+"/v1/config/vault?explain=1", "")
	for _, body := range []string{admin, stranger} {
		if strings.Contains(body, "canary") || strings.Contains(body, "a stored one") || strings.Count(body, `"********"`) != 2 {
			t.Errorf("%s", body)
		}
	}
	list := r.must("GET", "services/vault/secrets", "")
	if !strings.Contains(list, `{"key":"api_key","source":"env","set":true,"env":"DEMO_KEY","key_id":"`) || !strings.Contains(list, `{"key":"pin","source":"database","set":false}`) {
		t.Error(list)
	}
	// Without the variable the stored one holds.
	r.Stop()
	r = start(t, withoutKey(o)).ready()
	if v, _ := r.secret("/v1/config/vault/api_key"); v != `"a stored one"` {
		t.Errorf("without the variable: %s", v)
	}
	// A secret that the schema does not have any more is kept, and shown to nobody.
	r.must("PUT", "schemas/vault", `{"type":"object","properties":{"name":{"type":"string"},"api_key":{"type":"string"}}}`)
	if body, _ := r.secret("/v1/config/vault"); strings.Contains(body, "a stored one") {
		t.Error(body)
	}
	if list := r.must("GET", "services/vault/secrets", ""); !strings.Contains(list, `"unused":true`) {
		t.Error(list)
	}
}

// withoutKey is o without the variable of the secret.
func withoutKey(o options.Options) options.Options {
	lookup := o.LookupEnv
	o.LookupEnv = func(name string) (string, bool) {
		if name == "DEMO_KEY" {
			return "", false
		}
		return lookup(name)
	}
	return o
}

// Without a quorum nobody can write down who asked: nothing is revealed, and the
// service reads on.
func TestRevealNeedsAQuorum(t *testing.T) {
	t.Parallel()
	r, _ := three(t)
	r[0].keepSecret()
	for _, a := range r[1:] {
		a.Await("the secret", func() bool { v, _ := a.secret(passwordPath); return v == `"canary-secret-value"` })
		a.Stop()
	}
	code, _, body := r[0].Once("POST", r[0].Info().AdminURL+"/api/config/services/vault/secrets/db.password/reveal", `{"reason":"r"}`, "X-API-Token", testenv.WriteToken)
	if code == http.StatusOK || strings.Contains(body, "canary") {
		t.Errorf("revealed: %d %s", code, body)
	}
	if v, _ := r[0].secret(passwordPath); v != `"canary-secret-value"` {
		t.Errorf("the service reads %s", v)
	}
}

// TestASchemaGetsNoKeysOut: a schema can name any variable as the source of a secret;
// those of the agent itself are given to nobody.
func TestASchemaGetsNoKeysOut(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, map[string]string{
		"LITESTREAM_SECRET_ACCESS_KEY": "canary-secret-key", "AWS_SECRET_ACCESS_KEY": "canary-host-key", "GITHUB_TOKEN": "canary-host-token",
		"CONFIG_MEMBER_URL": "http://user:canary-url-key@127.0.0.1:1", "AWS_REGION": "canary-listed", "OTHERS_KEY": "canary-others-key",
		"CONFIG_ENV_ALLOW": "AWS_REGION, others:OTHERS_KEY",
	})).ready()
	r.must("PUT", "schemas/greedy", `{"type":"object","properties":{
 "master":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"CONFIG_MASTER_KEY_BASE64"},
 "config_signature_private_key":{"type":"string","x-secret":true,"x-secret-source":"env"},
 "tokens":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"CONFIG_API_TOKENS"},
 "rebuild":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"REBUILD_TOKEN"},
 "backup":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"LITESTREAM_SECRET_ACCESS_KEY"},
 "aws":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"AWS_SECRET_ACCESS_KEY"},
 "github_token":{"type":"string","x-secret":true,"x-secret-source":"env"},
 "setting":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"CONFIG_MEMBER_URL"},
 "region":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"AWS_REGION"},
 "others":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"OTHERS_KEY"},
 "mine":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"DEMO_KEY"}}}`)
	for _, path := range []string{"/v1/config/greedy", "/v1/config/greedy?explain=1", "/v1/env/greedy"} {
		body, _ := r.secret(path)
		if !strings.Contains(body, "canary-secret-value") || !strings.Contains(body, "canary-listed") {
			t.Errorf("%s has not what is the service's: %s", path, body)
		}
		if master := base64.StdEncoding.EncodeToString(r.Rooms().Keys.Set().Master); strings.Contains(body, master) || strings.Contains(body, "PRIVATE KEY") ||
			strings.Contains(body, testenv.WriteToken) || strings.Contains(body, testenv.RebuildToken) || strings.Contains(body, "canary-secret-key") ||
			strings.Contains(body, "canary-host") || strings.Contains(body, "canary-url") || strings.Contains(body, "canary-others") {
			t.Errorf("%s gives keys of the agent out: %s", path, body)
		}
	}
}
