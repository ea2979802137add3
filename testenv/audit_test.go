package testenv

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestAuditIsComplete counts what one caller did at every agent, through kills and
// a time without quorum, against the access log: each of it is there once.
func TestAuditIsComplete(t *testing.T) {
	c := StartCluster(t, 3, 1)
	leader := c.Leader()
	var tok conf.NewAPIToken
	leader.Admin("POST", "/api/config/tokens", `{"role":"config.read","name":"counted"}`, "X-API-Token: "+WriteToken, "Content-Type: application/json").OK(t).Into(t, &tok)
	did := 0
	reads := func(n *Node, times int) {
		t.Helper()
		Await(t, "the token to be known at "+n.ID, func() bool {
			return n.Admin("GET", "/api/config/me", "", "X-API-Token: "+tok.Token).Status == http.StatusOK
		})
		for range times {
			n.Admin("GET", "/api/config/services/stt-worker", "", "X-API-Token: "+tok.Token).OK(t)
			did++
		}
	}
	logged := func(n *Node) int {
		var page conf.AccessPage
		r := n.Admin("GET", "/api/config/access?user=counted&action=read&limit=1", "", "X-API-Token: "+WriteToken)
		if r.Status != http.StatusOK {
			return -1
		}
		r.Into(t, &page)
		return page.Total
	}
	for _, n := range c.Live() {
		reads(n, 15)
	}
	Await(t, "the reads of all agents in the log", func() bool { return logged(leader) == did })

	// Two of three servers go. The third knows the token, and reads go on.
	alone := c.Followers()[0]
	for _, n := range c.Followers() {
		if n.Role == conf.MemberServer {
			alone = n
		}
	}
	for _, n := range c.Live() {
		if n != alone {
			n.Kill()
		}
	}
	spool := alone.Path("audit.spool")
	before := did
	waiting := func() int {
		data, _ := os.ReadFile(spool)
		return strings.Count(string(data), `"user_id":"counted"`)
	}
	was := waiting()
	reads(alone, 20)
	if got := waiting(); got != was+did-before {
		t.Errorf("%d of %d reads are on its disk when they are answered", got-was, did-before)
	}
	if fi, err := os.Stat(spool); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	alone.Kill()
	alone.Start()
	reads(alone, 10)
	alone.Kill() // at once: what was answered is kept
	if got := waiting(); got != was+did-before {
		t.Errorf("%d of %d reads survive a SIGKILL", got-was, did-before)
	}
	for _, n := range c.Except() {
		n.Start()
	}
	for _, n := range c.Except() {
		n.AwaitUp()
	}
	Await(t, "all of it in the log", func() bool { return logged(alone) >= did })
	// Nothing comes twice, from what is left in the file either; and nothing is lost
	// that was not sent yet.
	reads(alone, 12)
	alone.Kill()
	alone.Start()
	alone.AwaitUp()
	reads(alone, 1)
	Await(t, "one more", func() bool { return logged(alone) >= did })
	if got := logged(alone); got != did {
		t.Errorf("%d reads, %d rows", did, got)
	}
	if got := waiting(); strings.Contains(alone.Log(), "lost") {
		t.Errorf("rows were lost; %d in the file", got)
	}
}
