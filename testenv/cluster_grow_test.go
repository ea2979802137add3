package testenv

import (
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestGrowsFromOneVoterToThree: between one server and three there is no time at
// which a cluster needs both of two. The second one may be away, and the first
// one may move, before the third one comes.
func TestGrowsFromOneVoterToThree(t *testing.T) {
	t.Parallel()
	for try := 1; ; try++ {
		took := growToThree(t)
		if took < 5*time.Second {
			t.Logf("there were two voters for %v", took)
			break
		}
		t.Logf("try %d: there were two voters for %v", try, took)
		if try == 3 { // once it may be the machine
			t.Error("there are two voters for long")
			break
		}
	}
}

// growToThree tells how long there were two voters, as far as somebody saw them.
func growToThree(t *testing.T) (took time.Duration) {
	c := NewCluster(t)
	first := c.Join(conf.MemberServer)
	second := c.Join(conf.MemberServer)
	one := func(what string) {
		t.Helper()
		began := time.Now() // a healthy server is promoted within about five seconds
		Await(t, "what would promote the second server to have passed", func() bool {
			st, ok := first.Status()
			if ok && st.Voters != 1 {
				t.Fatalf("%s: %d voters", what, st.Voters)
			}
			return time.Since(began) > 6*time.Second
		})
	}
	one("two servers")

	second.Kill()
	first.Patch("router", `{"router_stream_min_chars":21}`)
	first.Kill()
	first.Addr = c.Net.End(first.ID, first.Listen) // the old address is nobody's any more
	first.Set("CONFIG_ADVERTISE_ADDR", first.Addr)
	first.Start()
	first.AwaitUp()
	v := first.Patch("router", `{"router_stream_min_chars":22}`)
	second.Start()
	second.AwaitUp()
	awaitVersion(t, second, "router", v)

	c.Join(conf.MemberServer)
	var two, three time.Time
	Await(t, "three voters", func() bool {
		st, ok := first.Status()
		switch {
		case !ok:
		case st.Voters == 2 && two.IsZero():
			two = time.Now()
		case st.Voters == 3:
			three = time.Now()
		}
		return !three.IsZero()
	})
	if !two.IsZero() {
		took = three.Sub(two)
	}
	c.AwaitVoters(3)
	first.Kill() // any of the three may go now
	Await(t, "a write without the first", func() bool { return patchRouter(second, 23).Status == http.StatusOK })
	first.Start()
	first.AwaitUp()
	c.CheckInvariants(t, nil)
	return took
}
