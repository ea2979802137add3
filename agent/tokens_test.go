package agent_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func (r *running) apiToken(role conf.Role, name, ttl string) conf.NewAPIToken {
	r.T.Helper()
	code, _, body := r.Call("POST", r.Info().AdminURL+"/api/config/tokens", `{"role":"`+string(role)+`","name":"`+name+`","ttl":"`+ttl+`"}`,
		"X-API-Token", testenv.WriteToken, "Content-Type", "application/json")
	var tok conf.NewAPIToken
	if err := json.Unmarshal([]byte(body), &tok); err != nil || code != http.StatusOK || !strings.HasPrefix(tok.Token, "hfa_"+strings.TrimPrefix(tok.ID, conf.APITokenIDPrefix)+"_") {
		r.T.Fatalf("%d %s", code, body)
	}
	return tok
}

func (r *running) me(token string) (int, string) {
	r.T.Helper()
	code, _, body := r.Call("GET", r.Info().AdminURL+"/api/config/me", "", "X-API-Token", token)
	return code, body
}

// A token that was made at one agent is known at all, and a revoked one refused.
func TestAPITokensOfACluster(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	o2 := joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)
	n2 := start(t, o2).ready()
	side := start(t, joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)).ready()

	// At a follower: a caller that makes one there uses it there at once.
	tok := n2.apiToken(conf.RoleWrite, "ann", "1h")
	code, body := n2.me(tok.Token)
	var who conf.Principal
	if err := json.Unmarshal([]byte(body), &who); err != nil || code != 200 ||
		who != (conf.Principal{Name: "ann", Role: conf.RoleWrite, TokenID: tok.ID, ExpiresAt: tok.ExpiresAt}) {
		t.Fatalf("%d %s", code, body)
	}
	for _, r := range []*running{n1, side} {
		r.Await("the token everywhere", func() bool { code, _ := r.me(tok.Token); return code == 200 })
	}
	code, _, body = side.Call("PATCH", side.Info().AdminURL+"/api/config/services/demo", `{"level":42}`, "X-API-Token", tok.Token)
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if _, _, body := n1.Call("GET", n1.Info().AdminURL+"/api/config/history?user=ann", "", "X-API-Token", testenv.ReadToken); !strings.Contains(body, `"changed_by":"ann"`) {
		t.Error(body)
	}
	for name, wrong := range map[string]string{
		"cut": tok.Token[:len(tok.Token)-1], "other secret": tok.Token[:len(tok.Token)-4] + "0000", "other id": "hfa_000000000000" + tok.Token[16:], "id": tok.ID, "hash": "hfa_",
	} {
		if code, body := n1.me(wrong); code != 401 || !strings.Contains(body, "not known") {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	// What is kept, and what is told, does not hold it.
	for _, r := range []*running{n1, n2, side} {
		if st := r.Rooms().Replicas.LastStore(); strings.Contains(mustJSON(t, st.Queries.APITokens()), tok.Token) {
			t.Error("the token itself is stored")
		}
	}
	_, _, body = n1.Call("GET", n1.Info().AdminURL+"/api/config/tokens", "", "X-API-Token", testenv.ReadToken)
	if !strings.Contains(body, tok.ID) || strings.Contains(body, "hfa_") {
		t.Error(body)
	}
	// Without quorum it goes on, and after a restart too: the replica knows it.
	n1.Stop()
	if code, _ := n2.me(tok.Token); code != 200 {
		t.Errorf("without quorum: %d", code)
	}
	n1 = start(t, n1.Options).ready()
	if code, body := n1.me(tok.Token); code != 200 {
		t.Errorf("after a restart: %d %s", code, body)
	}

	short := n1.apiToken(conf.RoleRead, "brief", "1s")
	n1.Await("the end of a token", func() bool { code, _ := n1.me(short.Token); return code == 401 })
	// Revoked at one agent, refused there at once and at the others when they have applied it.
	n1.Await("the revocation of the token", func() bool {
		code, _, _ := n1.Call("DELETE", n1.Info().AdminURL+"/api/config/tokens/"+tok.ID, "", "X-API-Token", testenv.WriteToken)
		return code == 200
	})
	for _, r := range []*running{n1, n2, side} {
		code, body := r.me(tok.Token)
		if r == n1 && code == 200 {
			t.Error("the agent that answered the revocation still knows the token")
		}
		r.Await("the end of the token", func() bool { code, body = r.me(tok.Token); return code == 401 })
		if !strings.Contains(body, "expired or was revoked") {
			t.Error(body)
		}
	}
	if code, _, body := n1.Call("DELETE", n1.Info().AdminURL+"/api/config/tokens/api-ffffffffffff", "", "X-API-Token", testenv.WriteToken); code != 404 {
		t.Errorf("unknown id: %d %s", code, body)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
