package testenv

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// joinBad adds a sidecar that runs a bad build.
func (c *Cluster) joinBad(build string, env ...string) *Node {
	c.t.Helper()
	n := c.NewNode(conf.MemberSidecar, env...)
	n.bin = KnownBad(c.t, build)
	n.Paste(c.Nodes[0].TokenCommand("--role", "sidecar"))
	n.AwaitUp()
	return n
}

// TestSidecarThatRaisesTheTerm: a sidecar answers each message with a higher term. No
// write fails, nobody is deposed, the sidecar is named and counted, and removed at once.
func TestSidecarThatRaisesTheTerm(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 0)
	honest := c.Join(conf.MemberSidecar)
	evil := filepath.Join(t.TempDir(), "evil")
	bad := c.joinBad("higher-term", evilSwitch+"="+evil)
	leader := c.Leader()
	term := status(t, leader).Term
	if err := os.WriteFile(evil, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	writes, cut := 0, false
	for writes < 60 || !cut {
		c.Nodes[writes%3].Patch("router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, 10+writes%80))
		writes++
		st := status(t, leader)
		if row, ok := bad.In(st); ok && strings.Contains(row.Err, "cut off: ") {
			cut = true
		}
		if st.Term != term || st.Leader != leader.ID {
			t.Fatalf("after %d writes %s leads term %d; it was %s in term %d", writes, st.Leader, st.Term, leader.ID, term)
		}
		if writes > 5000 {
			t.Fatalf("the sidecar is not named in %s", jsonText(st))
		}
	}
	for _, n := range c.Nodes[:3] { // any agent knows from the leader
		Await(t, n.ID+" to name the sidecar", func() bool {
			out, code := n.Holdfast("cluster", "status")
			return code == 0 && strings.Contains(out, "cut off: it does not vote")
		})
	}
	if h, ok := leader.Health(); !ok || h.Err == nil || !strings.Contains(*h.Err, "member "+bad.ID+" is cut off") || !h.OK {
		t.Errorf("health of the leader: %s", jsonText(h))
	}
	metrics := string(leader.Local("/metrics").Body)
	if !strings.Contains(metrics, "holdfast_members_cut_off 1") || strings.Contains(metrics, "holdfast_refused_terms_total 0") {
		t.Errorf("not counted in:\n%s", metrics)
	}
	if out, code := leader.Holdfast("cluster", "remove", bad.ID); code != 0 {
		t.Errorf("cluster remove: %d %s", code, out)
	}
	v := leader.Patch("router", `{"router_stream_min_chars":9}`)
	Await(t, "the honest sidecar to go on", func() bool {
		d, err := honest.TryDocument("router")
		return err == nil && d.Metadata.Version >= v
	})
	st := status(t, leader)
	if _, ok := bad.In(st); ok || st.Term != term || strings.Contains(jsonText(st), "cut off") {
		t.Errorf("after its removal: %s", jsonText(st))
	}
	Await(t, "the all-clear in the health of the leader", func() bool { h, ok := leader.Health(); return ok && h.Err == nil })
}

// TestSidecarsReportStopsNothing: what two sidecars report of their builds and logs is
// absurd. Each kind of change goes on, and they are removed.
func TestSidecarsReportStopsNothing(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 0)
	bad := []*Node{c.joinBad("false-report", "HOLDFAST_TEST_KNOWS=9223372036854775808"), c.joinBad("false-report", "HOLDFAST_TEST_KNOWS=1")}
	leader := c.Leader()
	Await(t, "the leader to have asked the sidecars", func() bool {
		st := status(t, leader)
		a, ok := bad[0].In(st)
		b, ok2 := bad[1].In(st)
		return ok && ok2 && a.Reachable && b.Reachable
	})
	json := "Content-Type: application/json"
	term := status(t, leader).Term
	for i := range 3 {
		n := c.Nodes[i]
		n.Patch("router", fmt.Sprintf(`{"router_stream_min_chars":%d}`, 50+i))
		name := fmt.Sprintf("kind-%d", i)
		n.Try("PUT", "/api/config/schemas/"+name, `{"type":"object","properties":{"v":{"type":"string"},"s":{"type":"string","x-secret":true,"x-secret-source":"database"}}}`, json).OK(t)
		n.Try("PUT", "/api/config/services/"+name+"/secrets/s", `{"value":"x","reason":"test"}`, json).OK(t)
		n.Try("POST", "/api/config/tokens", fmt.Sprintf(`{"name":"t%d","role":"config.read"}`, i), json).OK(t)
		n.TokenCommand("--role", "sidecar")
		if i < len(bad) {
			if out, code := n.Holdfast("cluster", "remove", bad[i].ID); code != 0 {
				t.Errorf("cluster remove at %s: %d %s", n.ID, code, out)
			}
		}
	}
	leader.rotation(conf.KeySigning, "rotate")
	if st := status(t, leader); st.Term != term || st.Index > 1<<40 || len(st.Nodes) != 3 {
		t.Errorf("%s", jsonText(st))
	}
	if r := leader.Admin("GET", "/api/config/services/router?consistent=1", ""); r.Status != http.StatusOK {
		t.Error(r)
	}
}
