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
	leader.Try("POST", "/api/config/tokens", `{"role":"config.read","name":"counted"}`, "Content-Type: application/json").Into(t, &tok)
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
	// kept holds that reads are on its disk when they are answered. Nobody waits for a
	// disk that hangs, such as that of a machine that has stopped for a moment.
	waiting := func() int {
		data, _ := os.ReadFile(alone.Path("audit.spool"))
		return strings.Count(string(data), `"user_id":"counted"`)
	}
	before, was, stalls := did, waiting(), 0
	kept := func(what string, then func()) {
		t.Helper()
		for try := 1; ; try++ {
			reads(alone, 10)
			then()
			got := waiting() - was
			if got == did-before {
				return
			}
			t.Logf("try %d: of %d reads %d %s", try, did-before, got, what)
			if try == 3 {
				t.Errorf("of %d reads %d %s", did-before, got, what)
				return
			}
			stalls++
			if alone.Running() {
				Await(t, "the others to be there", func() bool { return waiting()-was == did-before })
			} else {
				did = before + got
				alone.Start()
			}
		}
	}
	kept("are on its disk when they are answered", func() {})
	if fi, err := os.Stat(alone.Path("audit.spool")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	alone.Kill()
	alone.Start()
	kept("survive a SIGKILL", alone.Kill) // at once
	for _, n := range c.Except() {
		n.Start()
	}
	for _, n := range c.Except() {
		n.AwaitUp()
	}
	Await(t, "all of it in the log", func() bool { return logged(alone) >= did })
	// Nothing comes twice, from what is left in the file either; and nothing is lost
	// that was not sent yet.
	was = waiting()
	reads(alone, 12)
	Await(t, "the reads to be on its disk, or in the log", func() bool { return waiting() >= was+12 || logged(alone) >= did })
	alone.Kill()
	alone.Start()
	alone.AwaitUp()
	reads(alone, 1)
	var got int
	Await(t, "one more", func() bool { got = logged(alone); return got >= did })
	if got != did {
		t.Errorf("%d reads, %d rows", did, got)
	}
	if stalls == 0 && strings.Contains(alone.Log(), "lost") {
		t.Errorf("rows were lost; %d in the file", waiting())
	}
}
