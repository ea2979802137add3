package cogtest

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/browser"
)

// TestCluster is what a person does with the members of a cluster: add them by a command of the
// page, hand the leadership over, make one a voter or not, remove one. Then most of them are gone.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := testenv.NewCluster(t)
	first := c.Join("server")
	p := signIn(t, first.AdminAddr, testenv.WriteToken)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *testenv.Cluster, *browser.Tab)
	}{
		{"Add", addMembers}, {"JoinTokens", joinTokens}, {"Transfer", transfer}, {"Members", members}, {"Outage", outage},
	} {
		if !t.Run(part.name, func(t *testing.T) { p.T = t; part.run(t, c, p) }) {
			break // what comes next needs the cluster that this leaves
		}
	}
	p.T = t
}

// addMembers makes a command in the page, lets an agent join with it, and sees it come.
func addMembers(t *testing.T, c *testenv.Cluster, p *browser.Tab) {
	second := c.NewNode("server")
	p.Open("/cog/cluster")
	p.Shows("Changes can be made: 1 of 1 voter answers, 1 is needed.", "index ")
	if why := p.Off("Transfer leadership"); why == "" {
		t.Error("leadership may be transferred to nobody")
	}
	p.Click("Add an agent")
	p.Click("Server")
	p.Choose("Valid for", "24 hours")
	p.Click("Make the command")
	p.Shows("Shown once. Valid for 1 agent", "Waiting for the agent to join")
	command := browser.Eval[string](p, "document.querySelector('dialog .cmd code').textContent")
	if !strings.HasPrefix(command, "holdfast agent --join ") {
		t.Fatalf("this is no command: %q", command)
	}
	second.Paste(command)
	p.Shows(second.ID + " has joined")
	p.Click("Done")
	second.AwaitUp()
	p.Shows("1 of 1 used", second.ID)
	c.Join("server") // two never vote: the loss of either would stop both
	c.AwaitVoters(3)
	p.Shows("3 of 3 voters answer, 2 are needed.")
}

// joinTokens makes a command for a sidecar of one service, and revokes it.
func joinTokens(t *testing.T, c *testenv.Cluster, p *browser.Tab) {
	p.Click("Add an agent")
	p.Click("Sidecar")
	p.Choose("Service", "stt-worker")
	p.Choose("Valid for", "1 hour")
	p.Fill("Agents", "-1")
	if why := p.Off("Make the command"); why == "" {
		t.Error("a command for -1 agents can be made")
	}
	p.Fill("Agents", "3")
	p.Confirm()
	p.Shows("Shown once. Valid for 3 agents")
	p.Click("Done")
	made := joinToken(t, c, func(k conf.JoinTokenInfo) bool { return k.Role == conf.MemberSidecar })
	if made.Service != "stt-worker" || made.Uses != 3 || made.Used != 0 || made.Revoked {
		t.Errorf("the page made %+v", made)
	}
	p.Shows("0 of 3 used")
	p.Click("Revoke " + made.ID)
	p.Shows("Nobody joins with it any more.")
	p.Click("Revoke the token")
	p.Shows("Revoked the token "+made.ID+".", "revoked")
	if k := joinToken(t, c, func(k conf.JoinTokenInfo) bool { return k.ID == made.ID }); !k.Revoked {
		t.Errorf("after revoking it, the token is %+v", k)
	}
}

// joinToken is the join token that the API lists and that is meant.
func joinToken(t *testing.T, c *testenv.Cluster, is func(conf.JoinTokenInfo) bool) conf.JoinTokenInfo {
	t.Helper()
	var list struct{ Tokens []conf.JoinTokenInfo }
	c.Nodes[0].Try("GET", "/api/config/cluster/tokens", "").Into(t, &list)
	i := slices.IndexFunc(list.Tokens, is)
	if i < 0 {
		t.Fatalf("the token is not in %+v", list.Tokens)
	}
	return list.Tokens[i]
}

// transfer hands the leadership over.
func transfer(t *testing.T, c *testenv.Cluster, p *browser.Tab) {
	second := c.Nodes[1]
	p.Click("Transfer leadership")
	p.Choose("To", second.ID)
	p.Click("Transfer")
	p.Shows("Leadership went to " + second.ID + ".")
	if leader := c.Leader(); leader != second {
		t.Errorf("%s leads, not %s", leader.ID, second.ID)
	}
	p.Open("/cog/health")
	p.Shows(second.ID+" leads", "3 of 3 answer", "This agent serves and takes changes.", "the same everywhere")
	p.Open("/cog/cluster")
}

// members makes a follower a non-voter, a voter again, and takes it out of the cluster.
func members(t *testing.T, c *testenv.Cluster, p *browser.Tab) {
	leader, third := c.Nodes[1], c.Nodes[2]
	state := func(want string) {
		t.Helper()
		testenv.Await(t, third.ID+" to be "+want, func() bool {
			st, ok := c.Nodes[0].Status()
			row, in := third.In(st)
			return ok && (in && row.State == want || !in && want == "")
		})
	}
	act := func(node, item, button string) {
		t.Helper()
		p.Click("More of " + node)
		p.Click(item)
		p.Click(button)
	}
	p.Await("the page to know who leads now", "[...document.querySelectorAll('tbody tr')].some((r) => words(r).includes(a[0]) && words(r).includes('leader'))", leader.ID)
	p.Click("More of " + leader.ID)
	p.AwaitOff("Remove from the cluster", "It leads") // for a moment after the transfer nobody is known to
	p.Run("document.querySelector('details[open]').open = false")
	act(third.ID, "Make it a non-voter", "Make it a non-voter")
	p.Shows(third.ID + ": a non-voter now.")
	state("non-voter")
	p.Await("the member to follow", "[...document.querySelectorAll('tbody tr')].some((r) => words(r).includes(a[0]) && words(r).includes('follows'))", third.ID)
	act(third.ID, "Make it a voter", "Make it a voter")
	p.Shows(third.ID + ": a voter now.")
	state("voter")
	act(third.ID, "Remove from the cluster", "Cancel")
	state("voter")
	act(third.ID, "Remove from the cluster", "Remove it")
	p.Shows(third.ID + ": removed.")
	state("")
	p.Await("the member to go", "![...document.querySelectorAll('section[aria-label=Members] tbody tr')].some((r) => words(r).includes(a[0]))", third.ID)
}

// outage has the only other voter die while a dialog is open: the refusal stands in the dialog,
// every view of the settings says what it knows, and what cannot be done is off until it is back.
func outage(t *testing.T, c *testenv.Cluster, p *browser.Tab) {
	first, second := c.Nodes[0], c.Nodes[1]
	p.Open("/cog/tokens")
	p.Click("New token")
	p.Fill("For whom or what", "panel")
	second.Kill()
	p.Await("the banner", "document.querySelector('.banner')?.innerText.includes('Read-only')")
	p.Click("Create token")
	p.Await("why nothing was made", "document.querySelector('dialog [role=alert]')?.innerText.length > 10")
	if name := browser.Eval[string](p, "document.querySelector('dialog input[data-first]').value"); name != "panel" {
		t.Errorf("the name that was typed is %q after the refusal", name)
	}
	p.Click("Cancel")
	if why := p.Off("New token"); !strings.Contains(why, "Changes are off") {
		t.Errorf("a token may be made: %q", why)
	}
	p.Open("/cog/cluster")
	p.Shows("No changes for now", "unreachable")
	p.AwaitOff("Add an agent", "Changes are off")
	p.AwaitOff("Transfer leadership", "Changes are off")
	p.Open("/cog/keys")
	p.AwaitOff("Rotate master", "Changes are off")
	p.Open("/cog/health")
	p.Shows("not now", "Start the servers that do not answer", second.ID+" is unreachable")
	for _, view := range []string{"backup", "access", "about", "tokens"} {
		p.Open("/cog/" + view)
		p.Await("one banner", "document.querySelectorAll('.banner').length === 1")
	}
	p.Click("Try now")
	second.Restart()
	p.Await("the banner to go", "!document.querySelector('.banner')")
	p.Open("/cog/tokens")
	p.Click("New token")
	p.Fill("For whom or what", "panel")
	p.Click("Create token")
	p.Shows("The token of “panel” is shown once.")
	if r := first.Try("GET", "/api/config/tokens", ""); r.Status != http.StatusOK || !strings.Contains(string(r.Body), `"panel"`) {
		t.Errorf("the tokens after the outage: %v", r)
	}
}
