package testenv

import (
	"net/http"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestLeave: any agent goes when it is told to, the one that leads too, and says
// that it did, although its connections to the others end with that.
func TestLeave(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 1)
	for i, n := range []*Node{c.Leader(), c.Nodes[3]} { // the leader, and the sidecar
		var r Reply
		Await(t, n.ID+" to be let go", func() bool { // a leader first has to find another
			r = n.Try("POST", "/api/config/cluster/leave", "")
			return r.Failure().Code != conf.CodeConflict
		})
		if r.Status != http.StatusOK {
			t.Fatalf("node %d of those that leave: %d %s", i, r.Status, r.Body)
		}
		n.Kill()
	}
	c.AwaitVoters(2)
	c.Leader().Patch("router", `{"router_stream_min_chars":31}`)
}
