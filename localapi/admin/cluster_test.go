package admin_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	tokens  = "/api/config/cluster/tokens"
	members = "/api/config/cluster/members/"
)

func TestClusterStatus(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.do("GET", "/api/config/cluster", readToken, "")
	if nodes, ok := a.body["nodes"].([]any); a.Code != 200 || !ok || len(nodes) != 0 {
		t.Errorf("no nodes: %d %s", a.Code, a.Body)
	}
	s.status = conf.ClusterStatus{
		ClusterID: "c1", ConfigEpoch: epoch, Leader: "n1", Quorum: true, Term: 4, Index: 90, Voters: 3,
		Nodes: []conf.NodeStatus{{
			NodeID: "n2", Role: conf.MemberServer, State: conf.NodeVoter, LagEntries: 3, LagSeconds: 0.25, Reachable: true,
			Services: map[string]uint64{"stt-worker": 5},
		}},
	}
	a = s.do("GET", "/api/config/cluster", readToken, "")
	var got conf.ClusterStatus
	if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.status, got); diff != "" {
		t.Error(diff)
	}
}

func TestCreateToken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		body string
		want conf.JoinTokenRequest
	}{
		{`{"role":"server"}`, conf.JoinTokenRequest{Role: "server", TTL: time.Hour, Uses: 1}},
		{`{"role":"sidecar","service":"stt-worker","ttl":"720h","uses":0}`, conf.JoinTokenRequest{Role: "sidecar", Service: "stt-worker", TTL: 720 * time.Hour}},
		{`{"role":"sidecar","ttl":"90s","uses":12}`, conf.JoinTokenRequest{Role: "sidecar", TTL: 90 * time.Second, Uses: 12}},
	} {
		s := newHarness(t)
		a := s.do("POST", tokens, writeToken, tc.body)
		if a.Code != 200 {
			t.Errorf("%s: %d %s", tc.body, a.Code, a.Body)
			continue
		}
		if s.token != tc.want || s.who.Name != "admin" {
			t.Errorf("%s: %+v by %s, want %+v", tc.body, s.token, s.who.Name, tc.want)
		}
		want := map[string]any{
			"success": true, "id": "t1", "token": joinToken, "command": "holdfast agent --join 10.0.0.1:2771 --token " + joinToken,
			"expires_at": "2026-01-02T04:04:05+00:00",
		}
		if diff := cmp.Diff(want, a.body); diff != "" {
			t.Error(diff)
		}
		if a.Header().Get("Cache-Control") != "no-store" {
			t.Error("the answer may be kept in a cache")
		}
	}
}

func TestBadClusterInput(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, tc := range []struct {
		method, target, body string
		status               int
		code                 conf.Code
	}{
		{"POST", tokens, ``, 400, conf.CodeMalformed},
		{"POST", tokens, `{}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"leader"}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","service":"A b"}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","ttl":"soon"}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","ttl":"0s"}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","ttl":"-1h"}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","ttl":"720h1s"}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","ttl":3600}`, 400, conf.CodeMalformed},
		{"POST", tokens, `{"role":"server","uses":-1}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","uses":1000001}`, 422, conf.CodeInvalid},
		{"POST", tokens, `{"role":"server","reusable":true}`, 400, conf.CodeMalformed},
		{"DELETE", tokens + "/.t", ``, 422, conf.CodeInvalid},
		{"POST", members + "a%20b/remove", ``, 422, conf.CodeInvalid},
		{"POST", members + "n2/remove", `{"force":true}`, 400, conf.CodeMalformed},
		{"POST", members + "n2/kill", ``, 404, conf.CodeNotFound},
		{"POST", "/api/config/cluster/transfer", `{"node":"-"}`, 422, conf.CodeInvalid},
		{"POST", "/api/config/cluster/transfer", `{"to":"n2"}`, 400, conf.CodeMalformed},
		{"GET", tokens + "?consistent=perhaps", ``, 422, conf.CodeInvalid},
	} {
		s.refused(s.do(tc.method, tc.target, writeToken, tc.body), tc.status, tc.code)
	}
}

func TestClusterChanges(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		target, body string
		want         []string
	}{
		{members + "n2/promote", "", []string{conf.ChangePromote, "n2"}},
		{members + "n2/demote", "", []string{conf.ChangeDemote, "n2"}},
		{members + "n2/remove", "", []string{conf.ChangeRemove, "n2"}},
		{"/api/config/cluster/transfer", "", []string{conf.ChangeTransfer, ""}},
		{"/api/config/cluster/transfer", `{"node":"n3"}`, []string{conf.ChangeTransfer, "n3"}},
		{"/api/config/cluster/leave", "", []string{conf.ChangeLeave, ""}},
	} {
		s := newHarness(t)
		a := s.do("POST", tc.target, writeToken, tc.body)
		if a.Code != 200 || a.body["success"] != true || !cmp.Equal(s.change, tc.want) {
			t.Errorf("%s %s: %d %s, asked for %v, want %v", tc.target, tc.body, a.Code, a.Body, s.change, tc.want)
		}
	}
	s := newHarness(t)
	if a := s.do("DELETE", tokens+"/t1", writeToken, ""); a.Code != 200 || s.id != "t1" || s.who.Name != "admin" {
		t.Errorf("revoke: %d %s, id %q", a.Code, a.Body, s.id)
	}
}

func TestWithoutACluster(t *testing.T) {
	t.Parallel()
	s := newHarness(t, func(o *admin.Options) { o.Cluster = nil })
	for _, r := range admin.Routes() {
		target, body := sample(r)
		if len(target) < len("/api/config/cluster") || target[:len("/api/config/cluster")] != "/api/config/cluster" {
			continue
		}
		s.refused(s.do(r.Method, target, writeToken, body), 501, conf.CodeUnsupported)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	if a := s.do("GET", "/api/config/keys", readToken, ""); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	a := s.do("POST", "/api/config/keys/signing/rotate?reason=because", writeToken, "")
	if a.Code != 200 || !strings.Contains(a.Body.String(), `"key_id":"rotate because"`) || !strings.Contains(a.Body.String(), `"success":true`) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if a := s.do("POST", "/api/config/keys/tls/rotate", writeToken, ""); a.Code != 404 {
		t.Fatalf("a key that there is not: %d %s", a.Code, a.Body)
	}
}
