package testenv

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// needRoot skips what only root can do, aloud, and fails instead under CI.
func needRoot(t *testing.T, what string, try func() error) {
	t.Helper()
	err := fmt.Errorf("this is not root")
	if os.Getuid() == 0 {
		err = try()
	}
	if err == nil {
		return
	}
	Missing(t, "%s: %v", what, err)
}

// smallDisk gives an agent that has not started yet a disk of its own.
func smallDisk(t *testing.T, a *Agent, mb int) {
	t.Helper()
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	needRoot(t, "a tmpfs of fixed size", func() error {
		return syscall.Mount("none", a.Dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mb))
	})
	t.Cleanup(func() { _ = syscall.Unmount(a.Dir, syscall.MNT_DETACH) })
}

// startOnSmallDisks starts three voters, each with a disk of mb MiB.
func startOnSmallDisks(t *testing.T, mb int, env ...string) *Cluster {
	t.Helper()
	c := NewCluster(t, env...)
	for i := range 3 {
		n := c.NewNode(conf.MemberServer)
		smallDisk(t, n.Agent, mb)
		if i == 0 {
			n.Start()
		} else {
			n.Paste(c.Nodes[0].TokenCommand("--role", "server"))
		}
		n.AwaitUp()
	}
	c.AwaitVoters(3)
	return c
}

// fill leaves so many bytes of the disk of an agent.
func fill(t *testing.T, a *Agent, leave int64) {
	t.Helper()
	f, err := os.OpenFile(a.Path("ballast"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 16<<10)
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(a.Dir, &st); err != nil {
			t.Fatal(err)
		}
		if free := int64(st.Bavail) * st.Bsize; free <= leave {
			return
		}
		if _, err := f.Write(block); err != nil {
			return // full
		}
	}
}

func unfill(t *testing.T, a *Agent) {
	t.Helper()
	if err := os.Remove(a.Path("ballast")); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisks fills the disks of servers. With one that is almost full the
// leader hands over and changes go on; with all of them they are refused with 507,
// and reads go on; with room again all is well.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	c := startOnSmallDisks(t, 48, "CONFIG_MIN_FREE_MB=16")
	v := c.Nodes[0].Patch("router", `{"router_stream_min_chars":51}`)
	for _, n := range c.Nodes {
		awaitVersion(t, n, "router", v)
	}
	var readers []*reader
	for _, n := range c.Nodes {
		readers = append(readers, startReader(n, "router", 1))
	}
	was := c.Leader()
	fill(t, was.Agent, 8<<20)
	Await(t, "the leader without space to hand over", func() bool { l := c.TryLeader(); return l != nil && l != was })
	Await(t, "a change through the agent without space", func() bool { return patchRouter(was, 52).Status == http.StatusOK })
	for _, n := range c.Nodes {
		if n != was {
			fill(t, n.Agent, 8<<20)
		}
	}
	for _, n := range c.Nodes {
		Await(t, n.ID+" to refuse changes for want of space", func() bool { return patchRouter(n, 53).Status == http.StatusInsufficientStorage })
		if r := patchRouter(n, 53); r.Status == http.StatusInsufficientStorage && (r.Failure().Code != conf.CodeStorageFull || r.Failure().Hint == "") {
			t.Errorf("%s: %s", n.ID, r)
		}
	}
	for _, n := range c.Nodes {
		unfill(t, n.Agent)
	}
	for _, n := range c.Nodes {
		Await(t, "a change with room again at "+n.ID, func() bool { return patchRouter(n, 54).Status == http.StatusOK })
	}
	for _, r := range readers {
		r.end(t, 100)
	}
	c.CheckInvariants(t, nil)
}

// TestDiskFullToTheLastByte lets the disk of the leader, and then of a follower,
// run full in the middle of writes. What cannot be written stops that member:
// the others go on, it serves its reads, and comes back by itself.
// There it gets all that it missed: while its disk was full it could not append
// what the leader of then had sent.
func TestDiskFullToTheLastByte(t *testing.T) {
	t.Parallel()
	c := startOnSmallDisks(t, 32, "CONFIG_MIN_FREE_MB=0")
	l := StartLoad(t, c, LoadOptions{Seed: 11, Pause: 20 * time.Millisecond})
	l.AwaitWrites(20)
	for _, pick := range []func() *Node{c.Leader, func() *Node { return c.Followers()[0] }} {
		n := pick()
		fill(t, n.Agent, 0)
		l.AwaitWrites(40) // the others elect a leader, if it led
		began := time.Now()
		Await(t, n.ID+" to have met the end of its disk", func() bool {
			h, ok := n.Health()
			return ok && !h.OK || time.Since(began) > 10*time.Second
		})
		unfill(t, n.Agent)
		Await(t, n.ID+" to come back by itself", func() bool { return normal(n) })
		c.AwaitVoters(3)
		l.AwaitWrites(10)
	}
	c.CheckInvariants(t, l)
	t.Log(l.Counts())
}

func ipTool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// TestNetworkNamespaces runs each server in a network of its own, and takes the
// link of one of them down: a true black hole, in which connections neither end
// nor answer. The other side goes on, and all come together when the link is up.
func TestNetworkNamespaces(t *testing.T) {
	t.Parallel()
	Need(t, "ip")
	// The switch stands in a namespace of its own, too: the packet filter of this
	// machine, Docker's say, has no word there.
	sw := fmt.Sprintf("hf%d", os.Getpid()%1000000)
	needRoot(t, "network namespaces", func() error {
		out, err := exec.Command("ip", "netns", "add", sw).CombinedOutput()
		if err == nil {
			t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", sw).Run() })
			out, err = exec.Command("ip", "-n", sw, "link", "add", "br0", "type", "bridge").CombinedOutput()
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	subnet := fmt.Sprintf("10.%d.%d", 201+os.Getpid()%50, os.Getpid()/50%250)
	ipTool(t, "-n", sw, "link", "set", "br0", "up")
	link := func(i int) string { return fmt.Sprintf("%s-%d", sw, i) }
	ipTool(t, "link", "add", link(0), "type", "veth", "peer", "name", link(0), "netns", sw)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", link(0)).Run() })
	ipTool(t, "addr", "add", subnet+".1/24", "dev", link(0))
	ipTool(t, "link", "set", link(0), "up")
	ipTool(t, "-n", sw, "link", "set", link(0), "master", "br0", "up")
	var all []*Node
	for i := 1; i <= 3; i++ {
		ns, addr := link(i), fmt.Sprintf("%s.%d", subnet, i+1)
		ipTool(t, "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		ipTool(t, "-n", sw, "link", "add", link(i), "type", "veth", "peer", "name", "eth0", "netns", ns)
		ipTool(t, "-n", sw, "link", "set", link(i), "master", "br0", "up")
		ipTool(t, "-n", ns, "addr", "add", addr+"/24", "dev", "eth0")
		ipTool(t, "-n", ns, "link", "set", "eth0", "up")
		ipTool(t, "-n", ns, "link", "set", "lo", "up")
		a := NewAgent(t, fmt.Sprintf("CONFIG_NODE_ID=n%d", i), "CONFIG_CLUSTER_ADDR="+addr+":2771", "CONFIG_MANAGER_HOST="+addr,
			"CONFIG_MANAGER_PORT=8081", "CONFIG_LOCAL_ADDR=127.0.0.1:2770")
		a.AdminAddr = addr + ":8081"
		a.args = append([]string{"netns", "exec", ns, a.bin}, a.args...)
		a.bin = "ip"
		if i > 1 {
			a.Set("CONFIG_JOIN", subnet+".2:2771")
			a.Set("CONFIG_JOIN_TOKEN_FILE", all[0].Path("join-token"))
		}
		all = append(all, &Node{Agent: a, ID: fmt.Sprintf("n%d", i), Role: conf.MemberServer, Addr: addr + ":2771"})
		a.Start()
	}
	leads := func(among ...*Node) (leader *Node) {
		for _, n := range among {
			if st, ok := n.Status(); ok && st.Quorum && st.Leader == n.ID {
				leader = n
			}
		}
		return leader
	}
	voters := func() bool {
		for _, n := range all {
			if st, ok := n.Status(); !ok || !st.Quorum || len(Voters(st)) != 3 {
				return false
			}
		}
		return true
	}
	Await(t, "three voters in three networks", voters)
	for round := range 2 {
		var n *Node
		Await(t, "a leader", func() bool { n = leads(all...); return n != nil })
		if round == 1 {
			n = all[(int(n.ID[1]-'1')+1)%3] // a follower
		}
		var rest []*Node
		for _, o := range all {
			if o != n {
				rest = append(rest, o)
			}
		}
		ipTool(t, "-n", sw, "link", "set", link(int(n.ID[1]-'0')), "down")
		Await(t, "the others to take a change", func() bool {
			return leads(rest...) != nil && patchRouter(rest[0], 60+round).Status == http.StatusOK
		})
		// Inside, behind the link: reads go on, changes are refused.
		inside := func(method string, more ...string) string {
			args := append([]string{
				"netns", "exec", link(int(n.ID[1] - '0')), "curl", "-s", "-m", "60", "-X", method,
				"-H", "X-API-Token: " + WriteToken, "-H", "Content-Type: application/json",
			}, more...)
			out, _ := exec.Command("ip", args...).CombinedOutput()
			return string(out)
		}
		Need(t, "curl")
		if got := inside("GET", "http://127.0.0.1:2770/v1/config/router"); !strings.Contains(got, "router_stream_min_chars") {
			t.Errorf("%s, cut off, does not serve: %s", n.ID, got)
		}
		Await(t, n.ID+", cut off, to refuse changes", func() bool {
			return strings.Contains(inside("PATCH", "-d", `{"router_stream_min_chars":99}`, "http://"+n.AdminAddr+"/api/config/services/router"), `"no_quorum"`)
		})
		ipTool(t, "-n", sw, "link", "set", link(int(n.ID[1]-'0')), "up")
		Await(t, "all to be together again", voters)
		var v uint64
		Await(t, "a change after that", func() bool {
			r := patchRouter(n, 70+round)
			if r.Status != http.StatusOK {
				return false
			}
			var d struct {
				NewVersion uint64 `json:"new_version"`
			}
			r.Into(t, &d)
			v = d.NewVersion
			return true
		})
		for _, o := range all {
			Await(t, o.ID+" to have it", func() bool {
				r := o.Admin("GET", "/api/config/services/router", "")
				return r.Status == http.StatusOK && strings.Contains(string(r.Body), fmt.Sprintf(`"version":%d`, v))
			})
		}
	}
}
