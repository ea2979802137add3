package agent_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

// TestAnswersWhileJoining: an agent that nobody has let in yet says so on all its
// ports, at once, and serves on the same ports as soon as it is in.
func TestAnswersWhileJoining(t *testing.T) {
	t.Parallel()
	founder := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	o := joining(t, founder, "n2", "")
	o.JoinTokenFile = filepath.Join(t.TempDir(), "join-token") // not there yet
	o.LocalAddr, o.LocalSocket = freeAddr(t), filepath.Join(t.TempDir(), "s")
	adminAddr := freeAddr(t)
	_, o.ManagerPort, _ = net.SplitHostPort(adminAddr)
	o.ManagerCert, o.ManagerKey = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	writeCertificate(t, o.ManagerCert, o.ManagerKey, 1) // the admin port never speaks plain HTTP then
	type made struct {
		a   *agent.Agent
		err error
	}
	came := make(chan made, 1)
	go func() {
		a, err := agent.New(t.Context(), o, founder.Log)
		came <- made{a, err}
	}()
	client := &http.Client{Timeout: testenv.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ask := func(url string) (int, http.Header, string) {
		resp, err := client.Get(url)
		if err != nil {
			return 0, nil, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header, string(body)
	}
	founder.Await("the joiner to listen", func() bool { code, _, _ := ask("https://" + adminAddr + "/"); return code != 0 })
	for _, url := range []string{
		"https://" + adminAddr + "/api/config/services/demo", "https://" + adminAddr + "/api/config/health", "http://" + o.LocalAddr + "/v1/config/demo",
		"http://" + o.LocalAddr + "/v1/watch/demo", "http://" + o.LocalAddr + "/readyz",
	} {
		var code int
		var header http.Header
		var body string
		founder.Await("an answer from "+url, func() bool { code, header, body = ask(url); return code != 0 })
		if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"read_only"`) || !strings.Contains(body, `"hint":"`) {
			t.Errorf("%s: %d %v %s", url, code, header, body)
		}
	}
	if code, _, body := ask("http://" + o.LocalAddr + "/healthz"); code != http.StatusOK || !strings.Contains(body, "joining the cluster at "+o.Join) {
		t.Errorf("health: %d %s", code, body)
	}
	if c, err := net.Dial("unix", o.LocalSocket); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if err := os.WriteFile(o.JoinTokenFile, []byte(founder.joinToken(conf.MemberServer).Token), 0o600); err != nil {
		t.Fatal(err)
	}
	m := <-came
	if m.err != nil {
		t.Fatal(m.err)
	}
	if got := m.a.Info(); got.AdminURL != "https://"+adminAddr || got.LocalURL != "http://"+o.LocalAddr {
		t.Errorf("it moved to %+v", got)
	}
	r := run(t, o, m.a).ready()
	if v, _ := r.level(); v != "1" {
		t.Errorf("level %s", v)
	}
	if code, _, body := ask("https://" + adminAddr + "/api/config/health"); code != http.StatusOK && code != http.StatusUnauthorized {
		t.Errorf("the admin API after the join: %d %s", code, body)
	}
}

// TestARefusedJoinKeepsTheToken: a join that cannot succeed, for the agent's own port or
// for an address that a member has, neither uses the token nor is logged as a join.
func TestARefusedJoinKeepsTheToken(t *testing.T) {
	t.Parallel()
	founder := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for i, tc := range []struct {
		name   string
		refuse func(o *options.Options)
		code   conf.Code
		says   string
	}{
		{"its port is taken", func(o *options.Options) { o.ClusterAddr = taken.Addr().String() }, conf.CodeUsage, "address already in use"},
		{"its address is a member's", func(o *options.Options) { o.AdvertiseAddr = founder.Info().Cluster }, conf.CodeConflict, "belongs to member n1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			token := founder.joinToken(conf.MemberServer)
			node := []string{"n2", "n3"}[i]
			o := joining(t, founder, node, token.Token)
			tc.refuse(&o)
			a, err := agent.New(t.Context(), o, founder.Log)
			if err == nil {
				run(t, o, a)
			}
			if conf.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.says) || conf.HintOf(err) == "" {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			list, err := founder.Rooms().Members.Tokens(t.Context())
			if err != nil || !slices.ContainsFunc(list, func(i conf.JoinTokenInfo) bool { return i.ID == token.ID && i.Used == 0 }) {
				t.Errorf("the token is used: %+v, %v", list, err)
			}
			page, err := founder.Rooms().Backend.AccessLog(t.Context(), conf.AccessFilter{Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range page.Results {
				if row.UserID == "join:"+node && row.Success {
					t.Errorf("logged as a join: %+v", row)
				}
			}
			if members := founder.Rooms().Cluster.Members(); slices.ContainsFunc(members, func(m conf.Member) bool { return m.NodeID == node }) {
				t.Errorf("it is a member: %+v", members)
			}
			start(t, joining(t, founder, node, token.Token)).ready() // from another directory
		})
	}
}

// Who joins a cluster in its first second knows where to ask: the founder's own row in the
// list of members comes a moment later.
func TestJoiningKnowsTheFounder(t *testing.T) {
	t.Parallel()
	founder := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	for _, n := range founder.status().Nodes {
		if n.NodeID != "n1" || n.Role != conf.MemberServer || n.Addr == "" {
			t.Errorf("the founder's own status in the first second: %+v", n)
		}
	}
	o := joining(t, founder, "n2", founder.joinToken(conf.MemberServer).Token)
	r := start(t, o)
	var saved struct{ Members []conf.Member }
	text, err := os.ReadFile(o.ClusterFile())
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	if err != nil || !slices.ContainsFunc(saved.Members, func(m conf.Member) bool { return m.NodeID == "n1" && m.Addr == founder.Info().Cluster }) {
		t.Errorf("%v: %s", err, text)
	}
	r.ready()
	for _, n := range r.status().Nodes {
		if n.Role != conf.MemberServer {
			t.Errorf("the status of %s at the other one: %+v", n.NodeID, n)
		}
	}
}
