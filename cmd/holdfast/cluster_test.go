package main

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const someEpoch = "550e8400-e29b-41d4-a716-446655440000"

func fiveAgents() conf.ClusterStatus {
	expires := conf.FormatTime(time.Now().Add(90*24*time.Hour + time.Hour))
	node := func(id, role, state string) conf.NodeStatus {
		return conf.NodeStatus{
			NodeID: id, Role: role, State: state, Addr: "10.0.0." + id[1:] + ":2771", Version: "v0.2.0", Reachable: true, CertificateExpires: expires,
			ConfigEpoch: someEpoch, Services: map[string]uint64{"router": 4, "stt-worker": 12},
		}
	}
	side := node("n4", conf.MemberSidecar, conf.NodeNonVoter)
	side.Service, side.LagEntries, side.LagSeconds, side.Services = "stt-worker", 3, 0.25, map[string]uint64{"router": 4, "stt-worker": 11}
	gone := node("n5", conf.MemberSidecar, conf.NodeUnreachable)
	gone.Reachable, gone.LagEntries, gone.LagSeconds, gone.Services, gone.Err = false, 120, 754, nil, "connection refused\n"
	gone.CertificateExpires = conf.FormatTime(time.Now().Add(-time.Hour))
	old := node("n0", conf.MemberServer, conf.NodeRemoved)
	return conf.ClusterStatus{
		ClusterID: "c1", ConfigEpoch: someEpoch, Leader: "n2", Quorum: true, Term: 4, Index: 90, Voters: 3,
		Nodes: []conf.NodeStatus{
			old, gone, side, node("n3", conf.MemberServer, conf.NodeVoter), node("n1", conf.MemberServer, conf.NodeVoter),
			node("n2", conf.MemberServer, conf.NodeLeader),
		},
	}
}

// answers is a server that gives the same response to every request.
func answers(t *testing.T, v any) http.HandlerFunc {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
}

// golden compares text with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update updates it):\n%s", path, diff)
	}
}

func TestClusterStatus(t *testing.T) {
	code, out, errs := inProcess(t, answers(t, fiveAgents()), "cluster", "status", "-v")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d, %s", code, errs)
	}
	golden(t, "cluster-status.golden", out)

	lost := fiveAgents()
	lost.Leader, lost.Quorum, lost.Voters = "", false, 3
	lost.Nodes = lost.Nodes[2:5]
	lost.Nodes[0].Services["stt-worker"] = 2
	lost.Nodes[0].ConfigEpoch = "another"
	lost.Nodes[1].CertificateExpires = ""
	lost.Nodes[1].State, lost.Nodes[1].Mode, lost.Nodes[1].Event = conf.NodeRebuilding, conf.ModeRebuilding, "waiting for the leader to take this agent back: it knows of no leader"
	lost.Nodes[1].Since = conf.FormatTime(time.Now().Add(-3 * time.Minute))
	lost.Nodes[2].Mode, lost.Nodes[2].Event = conf.ModeNormal, "rebuilt from the cluster as n1-r2"
	lost.Nodes[2].Since = conf.FormatTime(time.Now().Add(-2 * time.Hour))
	lost.Nodes[2].CertificateExpires = conf.FormatTime(time.Now().Add(26*time.Hour + time.Minute))
	code, out, _ = inProcess(t, answers(t, lost), "cluster", "status", "--verbose")
	if code != 6 {
		t.Errorf("no quorum: exit %d, want 6", code)
	}
	golden(t, "cluster-status-lost.golden", out)

	code, out, _ = inProcess(t, answers(t, lost), "cluster", "status", "-o", "json")
	var got conf.ClusterStatus
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 6 || len(got.Nodes) != 3 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

func TestClusterMembers(t *testing.T) {
	_, out, _ := inProcess(t, answers(t, fiveAgents()), "cluster", "members")
	if strings.Contains(out, "n0") || !strings.Contains(out, "n5") || !strings.HasPrefix(out, "NODE") || strings.Index(out, "n2") > strings.Index(out, "n1") {
		t.Errorf("members:\n%s", out)
	}
	_, out, _ = inProcess(t, answers(t, fiveAgents()), "cluster", "members", "--all")
	if !strings.Contains(out, "n0  ") || !strings.Contains(out, "removed") {
		t.Errorf("all members:\n%s", out)
	}
}

// Each change asks for what it says, and says what it did.
func TestClusterChanges(t *testing.T) {
	const base = "POST /api/config/cluster/"
	for _, tc := range []struct {
		args string
		want string // request and its body
		says string
	}{
		{"cluster promote n2", base + "members/n2/promote ", "n2: votes now\n"},
		{"cluster demote n2", base + "members/n2/demote ", "n2: does not vote any more\n"},
		{"cluster remove n2", base + "members/n2/remove ", "n2: removed\n"},
		{"cluster transfer", base + "transfer ", "the leadership was handed over; holdfast cluster status says to whom\n"},
		{"cluster transfer n2", base + `transfer {"node":"n2"}`, "n2: leads\n"},
		{"cluster leave", base + "leave ", "this agent has left the cluster\n"},
		{"token revoke api-1", "DELETE /api/config/tokens/api-1 ", "token api-1: revoked\n"},
		{"token revoke t1", "DELETE /api/config/cluster/tokens/t1 ", "token t1: revoked\n"},
	} {
		var asked string
		server := func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked = r.Method + " " + r.URL.RequestURI() + " " + string(body)
			_, _ = w.Write([]byte(`{"success":true}`))
		}
		code, out, errs := inProcess(t, server, strings.Fields(tc.args)...)
		if code != 0 || asked != tc.want || out != tc.says || errs != "" {
			t.Errorf("%s: exit %d, asked %q, want %q; says %q %q", tc.args, code, asked, tc.want, out, errs)
		}
		_, out, _ = inProcess(t, server, append(strings.Fields(tc.args), "-o", "json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%s -o json: %s", tc.args, out)
		}
	}
}

func TestTokenCreate(t *testing.T) {
	const command = "holdfast agent --join 10.0.0.1:2771 --token HF10123::t1:secret"
	token := conf.NewJoinToken{ID: "t1", Token: "HF10123::t1:secret", Command: command, ExpiresAt: "2026-01-02T03:04:05+00:00"}
	var body string
	server := func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		_ = json.NewEncoder(w).Encode(token)
	}
	code, out, errs := inProcess(t, server, "token", "create", "--role", "sidecar", "--service", "stt-worker", "--ttl", "24h", "--uses", "0")
	if code != 0 || out != command+"\n" {
		t.Errorf("exit %d, stdout %q", code, out)
	}
	if strings.Contains(errs, "secret") || !strings.Contains(errs, "any number of agents, until 2026-01-02T03:04:05+00:00; holdfast token revoke t1") {
		t.Errorf("stderr %q", errs)
	}
	if body != `{"role":"sidecar","service":"stt-worker","ttl":"24h0m0s","uses":0}` {
		t.Errorf("asked for %s", body)
	}
	_, _, _ = inProcess(t, server, "token", "create", "--role", "server")
	if body != `{"role":"server","uses":1}` {
		t.Errorf("asked for %s", body)
	}
	_, out, _ = inProcess(t, server, "token", "create", "--role", "server", "-o", "json")
	var got conf.NewJoinToken
	if err := json.Unmarshal([]byte(out), &got); err != nil || got != token {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTokenList(t *testing.T) {
	const future, past = "2999-01-02T03:04:05+00:00", "2000-01-02T03:04:05+00:00"
	joins, api := answers(t, map[string]any{"tokens": []conf.JoinTokenInfo{
		{ID: "t1", Role: "server", ExpiresAt: future, Uses: 1, CreatedBy: "ann"},
		{ID: "t2", Role: "server", ExpiresAt: past, Uses: 3, Used: 1, CreatedBy: "ann"},
		{ID: "t3", Role: "sidecar", Service: "router", ExpiresAt: future, Uses: 1, Used: 1, CreatedBy: "ann"},
		{ID: "t4", Role: "server", Uses: 0, Used: 7, CreatedBy: "bootstrap"},
		{ID: "t5", Role: "server", ExpiresAt: future, Uses: 1, Revoked: true, CreatedBy: "ann"},
	}}), answers(t, map[string]any{"tokens": []conf.APITokenInfo{
		{ID: "api-0123456789ab", Name: "ci", Role: conf.RoleRead, ExpiresAt: future, CreatedBy: "ann"},
		{ID: "api-0123456789ac", Name: "ann", Role: conf.RoleWrite, ExpiresAt: past, CreatedBy: "token-01234567"},
		{ID: "api-0123456789ad", Name: "bob", Role: conf.RoleWrite, ExpiresAt: future, CreatedBy: "ann", Revoked: true},
	}})
	_, out, _ := inProcess(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/cluster/") {
			joins(w, r)
		} else {
			api(w, r)
		}
	}, "token", "list")
	golden(t, "token-list.golden", out)
	_, out, errs := inProcess(t, answers(t, map[string]any{"tokens": []any{}}), "token", "list")
	if out != "" || !strings.Contains(errs, "holdfast token create") {
		t.Errorf("none: %q %q", out, errs)
	}
}

// A setting of the agent that has the name of a flag of every command is the
// agent's own on "agent" and "dev": --token is the join token there, and never
// the API token.
func TestSettingsWinOverGlobalFlags(t *testing.T) {
	o := options.Defaults()
	for _, name := range []string{"agent", "dev"} {
		for _, s := range options.Settings(&o) {
			a := &cli.App{LookupEnv: func(string) (string, bool) { return "", false }}
			root := newRoot(a)
			if root.PersistentFlags().Lookup(s.Flag) == nil {
				continue
			}
			cmd, rest, err := root.Find([]string{name, "--" + s.Flag, "given"})
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Fatal(err)
			}
			if f := cmd.Flags().Lookup(s.Flag); !strings.Contains(f.Usage, "["+s.Env+"]") || f.Value.String() != "given" {
				t.Errorf("%s --%s is not the setting %s", name, s.Flag, s.Env)
			}
			for _, global := range []string{"token", "data-dir", "env-file"} {
				if root.PersistentFlags().Lookup(global).Value.String() != "" {
					t.Errorf("%s --%s went to the flag of every command", name, s.Flag)
				}
			}
		}
	}
}
