package agent_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestTokensOfABackup: what lets people and agents in does not come back with a
// backup, whether a new cluster begins from it or an agent repairs itself by it.
func TestTokensOfABackup(t *testing.T) {
	t.Parallel()
	place := map[string]string{"CONFIG_NODE_ID": "n1", "LITESTREAM_S3_ENDPOINT": "file://" + t.TempDir()}
	o := testenv.Options(t, place)
	r := start(t, o).ready()
	var tok conf.NewAPIToken
	if err := json.Unmarshal([]byte(r.must("POST", "tokens", `{"role":"config.write","name":"ann"}`)), &tok); err != nil {
		t.Fatal(err)
	}
	join := r.joinToken(conf.MemberServer)
	r.set("42")
	me := func(r *running) int {
		code, _, _ := r.Call("GET", r.Info().AdminURL+"/api/config/me", "", "X-API-Token", tok.Token)
		return code
	}
	if code := me(r); code != http.StatusOK {
		t.Fatalf("a new token: %d", code)
	}
	r.Await("the backup", func() bool { b := r.Rooms().Backups.Known(); return b.Verified != nil && b.Behind == 0 })
	bootstrap := func(r *running) string {
		data, err := os.ReadFile(r.Options.ServerTokenPath)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	check := func(r *running, was string) {
		t.Helper()
		if v, _ := r.level(); v != "42" {
			t.Errorf("level %s", v)
		}
		if code := me(r); code != http.StatusUnauthorized {
			t.Errorf("an API token of the backup: %d", code)
		}
		list, err := r.Rooms().Members.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		live := 0
		for _, j := range list {
			if j.ID == join.ID && !j.Revoked {
				t.Error("a join token of the backup lets servers in")
			}
			if !j.Revoked {
				live++
			}
		}
		if is := bootstrap(r); is == was || live != 2 {
			t.Errorf("the tokens for tools: %d live, the same file as before: %v", live, is == was)
		}
	}
	was := bootstrap(r)
	env, err := os.ReadFile(o.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	r.Stop()

	// The same agent repairs itself.
	damage(t, o)
	r = start(t, o)
	r.Await("the damage", func() bool { return r.Health().DatabaseStatus == conf.DatabaseCorrupted })
	if code, _, body := r.Call("POST", r.Info().AdminURL+"/api/config/rebuild", `{"token":"`+testenv.RebuildToken+`"}`); code != http.StatusOK {
		t.Fatal(body)
	}
	r.ready()
	check(r, was)
	r.Stop()

	// A new cluster begins from it.
	place["CONFIG_ENV_FILE"] = filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(place["CONFIG_ENV_FILE"], env, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := testenv.Options(t, place)
	if _, err := recovery.RestoreCluster(t.Context(), fresh, recovery.RestorePoint{}, r.Log); err != nil {
		t.Fatal(err)
	}
	r = start(t, fresh).ready()
	check(r, was)
	r.Stop()
}
