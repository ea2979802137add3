package testenv

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestClusterByPaste builds a cluster of three servers and two sidecars with
// nothing but the command lines that a member prints, and reads its status as a
// person does.
func TestClusterByPaste(t *testing.T) {
	c := NewCluster(t)
	for range 3 {
		c.Join(conf.MemberServer)
	}
	side := c.NewNode(conf.MemberSidecar)
	side.Paste(c.Nodes[1].TokenCommand("--role", "sidecar", "--service", "stt-worker")) // any member prints it
	side.AwaitUp()
	c.Join(conf.MemberSidecar)
	c.AwaitVoters(3)

	for _, n := range c.Nodes {
		lines := []string{
			`(?m)^cluster [0-9a-f-]{36}, epoch [0-9a-f-]{36}$`, `(?m)^n[123] leads, term \d+, index \d+; 3 of 5 agents vote; 5 of 5 answer$`,
			`(?m)^changes can be made$`, `(?m)^NODE +ROLE +SERVICE +STATE +ADDRESS +BEHIND +CERTIFICATE `,
			`(?m)^n[123] +server +- +leader +` + regexp.QuoteMeta("127.0.0.1:"), `(?m)^n4 +sidecar +stt-worker +non-voter +` + regexp.QuoteMeta(side.Addr),
			`(?m)^n5 +sidecar +- +non-voter `, `(?m)^stt-worker +1 +all 5 that answer$`,
		}
		var out, missing string
		if !poll(Patience, func() bool { // an agent that is busy may not answer in time
			var code int
			if out, code = n.Holdfast("cluster", "status", "-v"); code != 0 {
				missing = fmt.Sprintf("exits with %d", code)
				return false
			}
			missing = ""
			for _, want := range lines {
				if !regexp.MustCompile(want).MatchString(out) {
					missing = "has no line like " + want
				}
			}
			if voters := regexp.MustCompile(`(?m)^n[123] +server +- +voter `).FindAllString(out, -1); len(voters) != 2 {
				missing = fmt.Sprintf("names %d voters beside the leader", len(voters))
			}
			return missing == ""
		}) {
			t.Errorf("cluster status at %s %s:\n%s", n.ID, missing, out)
		}
	}

	// A write at any agent is read at every agent.
	for i, n := range c.Nodes {
		v := n.Patch("router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, 40+i))
		for _, reader := range c.Nodes {
			Await(t, fmt.Sprintf("%s to serve what was written at %s", reader.ID, n.ID), func() bool {
				d, err := reader.TryDocument("router")
				return err == nil && d.Metadata.Version >= v && d.Values["router_stream_min_chars"] == json.Number(fmt.Sprint(40+i))
			})
		}
	}

	// Joining again changes nothing: the directory says who the agent is.
	before := status(t, c.Nodes[0])
	side.Restart()
	if after := status(t, c.Nodes[0]); len(after.Nodes) != len(before.Nodes) {
		t.Errorf("%d members after a restart, %d before", len(after.Nodes), len(before.Nodes))
	}

	t.Run("a sidecar has no key of others", func(t *testing.T) {
		for _, secret := range []string{"CONFIG_MASTER_KEY", "PRIVATE"} {
			if text, err := os.ReadFile(side.EnvFile()); err == nil && strings.Contains(string(text), secret) {
				t.Errorf("the .env file of a sidecar names %s", secret)
			}
		}
	})
	c.CheckInvariants(t, nil)
}

// TestTokensRefused joins with every token that must not work. To the joiner all
// are the same.
func TestTokensRefused(t *testing.T) {
	c := StartCluster(t, 1, 0)
	other := StartCluster(t, 1, 0)
	founder := c.Nodes[0]

	used := founder.TokenCommand("--role", "sidecar", "--uses", "1")
	n := c.NewNode(conf.MemberSidecar)
	n.Paste(used)
	n.AwaitUp()

	expired := founder.TokenCommand("--role", "sidecar", "--ttl", "1s")
	revoked := founder.TokenCommand("--role", "sidecar")
	founder.Try("DELETE", "/api/config/cluster/tokens/"+tokenID(t, revoked), "").OK(t)
	good := founder.TokenCommand("--role", "sidecar", "--uses", "0")
	var list struct {
		Tokens []conf.JoinTokenInfo `json:"tokens"`
	}
	Await(t, "the token of one second to expire", func() bool {
		founder.Admin("GET", "/api/config/cluster/tokens", "").Into(t, &list)
		for _, info := range list.Tokens {
			if info.ID == tokenID(t, expired) {
				return info.RejectReason(conf.FormatTime(time.Now())) == "expired"
			}
		}
		return false
	})
	flip := "A"
	if good[len(good)-5] == 'A' {
		flip = "B"
	}
	tampered := good[:len(good)-5] + flip + good[len(good)-4:]
	elsewhere := strings.Replace(other.Nodes[0].TokenCommand("--role", "sidecar"), other.Nodes[0].Addr, founder.Addr, 1)

	members := len(status(t, founder).Nodes)
	said := map[string]string{}
	for _, tc := range []struct{ name, command string }{
		{"expired", expired}, {"used", used}, {"revoked", revoked}, {"tampered", tampered}, {"of another cluster", elsewhere},
	} {
		n := c.NewNode(conf.MemberSidecar)
		n.Paste(tc.command)
		code := n.proc.Wait(t, "a join with a token that is "+tc.name+" to be refused")
		if code == 0 {
			t.Errorf("%s: exit 0", tc.name)
		}
		said[tc.name] = refusalOf(n.Log(), n.Dir)
		if strings.Contains(n.Log(), tc.command[strings.LastIndex(tc.command, ":")+1:]) {
			t.Errorf("%s: the agent prints the secret of the token", tc.name)
		}
	}
	for name, text := range said {
		// A token of another cluster never reaches this one: the joiner itself sees
		// that the CA is another.
		if name != "of another cluster" && text != said["used"] {
			t.Errorf("a token that is %s is refused with\n%s\nand a used one with\n%s", name, text, said["used"])
		}
		if !strings.Contains(strings.ToLower(text), "token") {
			t.Errorf("a token that is %s is refused with %q", name, text)
		}
	}
	if got := len(status(t, founder).Nodes); got != members {
		t.Errorf("%d members after the refusals, %d before", got, members)
	}
	// The operator is told the reasons.
	for _, reason := range []string{"expired", "used", "revoked"} {
		Await(t, "an audit row about a token that is "+reason, func() bool {
			r := founder.Admin("GET", "/api/config/access?limit=200", "")
			return r.Status == 200 && strings.Contains(string(r.Body), "join token "+reason)
		})
	}
	// The good one still works.
	n = c.NewNode(conf.MemberSidecar)
	n.Paste(good)
	n.AwaitUp()
}

// tokenID is the public part of the token in a command line.
func tokenID(t *testing.T, command string) string {
	t.Helper()
	_, rest, ok := strings.Cut(command, "::")
	id, _, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		t.Fatalf("no token in %q", command)
	}
	return id
}

// refusalOf is what an agent that ended said last, without what differs from
// agent to agent.
func refusalOf(log, dir string) string {
	var out []string
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "holdfast: ") || strings.HasPrefix(line, "hint: ") {
			out = append(out, strings.ReplaceAll(strings.TrimSpace(line), dir, "DIR"))
		}
	}
	return strings.Join(out, "\n")
}

func status(t *testing.T, n *Node) (st conf.ClusterStatus) {
	t.Helper()
	Await(t, n.ID+" to tell its status", func() (ok bool) { st, ok = n.Status(); return ok })
	return st
}
