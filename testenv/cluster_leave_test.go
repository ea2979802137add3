package testenv

import (
	"net/http"
	"testing"
)

// TestLeave: any agent goes when it is told to, the one that leads too, and says
// that it did, although its connections to the others end with that.
func TestLeave(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 1)
	for i, n := range []*Node{c.Leader(), c.Nodes[3]} { // the leader, and the sidecar
		if r := n.Admin("POST", "/api/config/cluster/leave", ""); r.Status != http.StatusOK {
			t.Fatalf("node %d of those that leave: %d %s", i, r.Status, r.Body)
		}
		n.Kill()
	}
	c.AwaitVoters(2)
	c.Leader().Patch("router", `{"router_stream_min_chars":31}`)
}
