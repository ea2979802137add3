package testenv

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster is several agents, as processes of their own, that have joined each
// other through the command lines that `holdfast token create` printed. All
// traffic between them passes Net.
type Cluster struct {
	t     testing.TB
	Nodes []*Node
	Net   *Network
	env   []string

	mu  sync.Mutex
	all []*Node // Nodes, for other goroutines
}

// Node is one agent of a Cluster.
type Node struct {
	*Agent
	ID     string
	Role   string
	Listen string // where its cluster port really is
	Addr   string // where the others reach it, through the Network

	// life is odd while the process is not expected to answer: killed, paused, or
	// on its way up. It changes with each such time.
	life atomic.Uint64
	pid  atomic.Int64
}

// StartCluster starts servers and sidecars, and waits until each of them works
// and the voters vote.
func StartCluster(t testing.TB, servers, sidecars int, env ...string) *Cluster {
	t.Helper()
	c := NewCluster(t, env...)
	for range servers {
		c.Join(conf.MemberServer)
	}
	for range sidecars {
		c.Join(conf.MemberSidecar)
	}
	c.AwaitVoters(min(servers, 3))
	return c
}

// NewCluster makes one without agents.
func NewCluster(t testing.TB, env ...string) *Cluster {
	c := &Cluster{t: t, env: env}
	c.Net = NewNetwork(t, func() map[int]string {
		pids := map[int]string{}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, n := range c.all {
			if pid := int(n.pid.Load()); pid != 0 {
				pids[pid] = n.ID
				for _, child := range children(pid) {
					pids[child] = n.ID
				}
			}
		}
		return pids
	})
	return c
}

// children are the processes that pid started, such as the agent that a shell runs.
func children(pid int) (out []int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(data)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// NewNode makes an agent of the cluster that is not started and has not joined.
func (c *Cluster) NewNode(role string, env ...string) *Node {
	c.t.Helper()
	id := fmt.Sprintf("n%d", len(c.Nodes)+1)
	n := &Node{Agent: NewAgent(c.t, append([]string{"CONFIG_NODE_ID=" + id}, append(c.env, env...)...)...), ID: id, Role: role}
	n.Listen = n.env["CONFIG_CLUSTER_ADDR"]
	n.Addr = c.Net.End(id, n.Listen)
	n.Set("CONFIG_ADVERTISE_ADDR", n.Addr)
	n.life.Store(1)
	c.Nodes = append(c.Nodes, n)
	c.mu.Lock()
	c.all = append(c.all, n)
	c.mu.Unlock()
	return n
}

// Join adds an agent: the first one founds the cluster, the others are started by
// the command that a member prints for them.
func (c *Cluster) Join(role string, env ...string) *Node {
	c.t.Helper()
	first := len(c.Nodes) == 0
	n := c.NewNode(role, env...)
	if first {
		n.Start()
	} else {
		n.Paste(c.Nodes[0].TokenCommand("--role", role))
	}
	n.AwaitUp()
	return n
}

// Holdfast runs the command line tool beside the agent, as one that is installed, and
// returns what it printed to its standard output.
func (n *Node) Holdfast(args ...string) (stdout string, code int) {
	n.t.Helper()
	out := filepath.Join(n.t.TempDir(), "stdout")
	quoted := ""
	for _, a := range args {
		quoted += " '" + a + "'"
	}
	p := Spawn(n.t, filepath.Dir(n.Dir), append(n.Env(), n.path()), "sh", "-c", "exec '"+n.bin+"'"+quoted+" >"+out)
	code = p.Wait(n.t, "holdfast "+strings.Join(args, " "))
	data, err := os.ReadFile(out)
	if err != nil {
		n.t.Fatal(err)
	}
	if code != 0 {
		n.t.Logf("holdfast %s: exit %d: %s", strings.Join(args, " "), code, p.Output())
	}
	return string(data), code
}

// TokenCommand is the command line that `holdfast token create` prints here.
func (n *Node) TokenCommand(args ...string) string {
	n.t.Helper()
	var out string
	Await(n.t, n.ID+" to make a join token", func() bool {
		var code int
		out, code = n.Holdfast(append([]string{"token", "create"}, args...)...)
		return code == 0
	})
	out = strings.TrimSpace(out)
	if !strings.HasPrefix(out, "holdfast agent --join ") || strings.Contains(out, "\n") {
		n.t.Fatalf("this is not one command to paste: %q", out)
	}
	return out
}

// path is the PATH on which a shell finds the program.
func (n *Node) path() string {
	return "PATH=" + filepath.Dir(n.bin) + string(os.PathListSeparator) + os.Getenv("PATH")
}

// Paste starts the agent with a command line, as it is, in a shell.
func (n *Node) Paste(command string) {
	n.t.Helper()
	n.proc = spawn(n.t, n.log, filepath.Dir(n.Dir), append(n.Env(), n.path()), "sh", "-c", command)
	n.pid.Store(int64(n.proc.Pid()))
}

// Start starts the process and returns at once.
func (n *Node) Start() {
	n.t.Helper()
	n.Agent.Start()
	n.pid.Store(int64(n.proc.Pid()))
}

// down notes that the node is not to be counted on, up that it is.
func (n *Node) down() {
	if n.life.Load()%2 == 0 {
		n.life.Add(1)
	}
}

func (n *Node) up() {
	if n.life.Load()%2 == 1 {
		n.life.Add(1)
	}
}

// Alive says whether the node is to answer, and names this life of it.
func (n *Node) Alive() (life uint64, ok bool) {
	life = n.life.Load()
	return life, life%2 == 0
}

// AwaitUp waits until the agent works normally, in the cluster.
func (n *Node) AwaitUp() {
	n.t.Helper()
	n.AwaitNormal()
	n.up()
}

// AwaitReads waits until the local API serves what a restarted agent has.
func (n *Node) AwaitReads(service string) {
	n.t.Helper()
	n.AwaitServing(service)
	n.up()
}

// Kill ends the process with SIGKILL.
func (n *Node) Kill() {
	n.down()
	n.Agent.Kill()
	n.pid.Store(0)
}

// Stop ends the process in an orderly way.
func (n *Node) Stop() {
	n.t.Helper()
	n.down()
	// The agent may be the child of the shell that its command was pasted into.
	if err := syscall.Kill(-n.proc.Pid(), syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	n.proc.Wait(n.t, n.ID+" to stop after SIGTERM")
	n.pid.Store(0)
}

// Restart starts the process again, after killing it if it runs, and waits until
// it works.
func (n *Node) Restart() {
	n.t.Helper()
	n.Kill()
	n.Start()
	n.AwaitUp()
}

// Pause stops the process with SIGSTOP: its sockets stay open and nothing answers.
func (n *Node) Pause() {
	n.t.Helper()
	n.down()
	if err := syscall.Kill(-n.proc.Pid(), syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
}

// Resume lets a paused process go on.
func (n *Node) Resume() {
	n.t.Helper()
	if err := syscall.Kill(-n.proc.Pid(), syscall.SIGCONT); err != nil {
		n.t.Fatal(err)
	}
	n.up()
}

// Wipe empties the data directory of an agent that does not run. What the user
// gave it, its settings, stays.
func (n *Node) Wipe() {
	n.t.Helper()
	if n.Running() {
		n.t.Fatal("the agent runs")
	}
	if err := os.RemoveAll(n.Dir); err != nil {
		n.t.Fatal(err)
	}
}

// Status is the cluster as this agent sees it; ok is false while it does not answer.
func (n *Node) Status() (st conf.ClusterStatus, ok bool) {
	r := n.Admin("GET", "/api/config/cluster", "")
	if r.Err != nil || r.Status != http.StatusOK || json.Unmarshal(r.Body, &st) != nil {
		return st, false
	}
	return st, true
}

// In is the node's row in a status. It is known by its address: a server that lost
// its log comes back under another id.
func (n *Node) In(st conf.ClusterStatus) (row conf.NodeStatus, ok bool) {
	for _, r := range st.Nodes {
		if r.Addr == n.Addr && (!ok || r.Reachable) {
			row, ok = r, true
		}
	}
	return row, ok
}

// Voters are the nodes that vote, as far as this agent knows; those that do not
// answer are not among them.
func Voters(st conf.ClusterStatus) (out []string) {
	for _, n := range st.Nodes {
		if n.State == conf.NodeLeader || n.State == conf.NodeVoter {
			out = append(out, n.NodeID)
		}
	}
	return out
}

// Node is the one with this id, nil when there is none.
func (c *Cluster) Node(id string) *Node {
	for _, n := range c.Nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// Live are the nodes that are to answer.
func (c *Cluster) Live() (out []*Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.all {
		if _, ok := n.Alive(); ok {
			out = append(out, n)
		}
	}
	return out
}

// IDs names nodes.
func IDs(nodes ...*Node) (out []string) {
	for _, n := range nodes {
		out = append(out, n.ID)
	}
	return out
}

// Except are the nodes other than these.
func (c *Cluster) Except(some ...*Node) (out []*Node) {
next:
	for _, n := range c.Nodes {
		for _, s := range some {
			if n == s {
				continue next
			}
		}
		out = append(out, n)
	}
	return out
}

// TryLeader is the node that says of itself that it leads with a quorum, nil when
// none does at this moment.
func (c *Cluster) TryLeader() *Node {
	for _, n := range c.Live() {
		if st, ok := n.Status(); ok && st.Quorum {
			if row, ok := n.In(st); ok && row.NodeID == st.Leader {
				return n
			}
		}
	}
	return nil
}

// Leader waits for a node that leads, and takes writes.
func (c *Cluster) Leader() (leader *Node) {
	c.t.Helper()
	Await(c.t, "the cluster to have a leader", func() bool {
		leader = c.TryLeader()
		return leader != nil
	})
	return leader
}

// Followers are the living servers that do not lead.
func (c *Cluster) Followers() []*Node {
	c.t.Helper()
	_, followers := c.Servers()
	return followers
}

// Servers are the living servers, in one look: between two of them another may
// have come to lead.
func (c *Cluster) Servers() (leader *Node, followers []*Node) {
	c.t.Helper()
	leader = c.Leader()
	for _, n := range c.Live() {
		if n != leader && n.Role == conf.MemberServer {
			followers = append(followers, n)
		}
	}
	return leader, followers
}

// AwaitVoters waits until every living node sees count voters, all of them there,
// and a leader that all agree on.
func (c *Cluster) AwaitVoters(count int) {
	c.t.Helper()
	var last string
	if !poll(2*Patience, func() bool {
		leader := ""
		for _, n := range c.Live() {
			st, ok := n.Status()
			last = fmt.Sprintf("%s sees %s", n.ID, jsonText(st))
			if !ok || !st.Quorum || st.Voters != count || len(Voters(st)) != count || (leader != "" && st.Leader != leader) {
				return false
			}
			leader = st.Leader
		}
		return leader != ""
	}) {
		c.t.Fatalf("waited %v in vain for %d voters that agree on a leader; %s", 2*Patience, count, last)
	}
}

// FlipByte changes one byte of a file, in the middle of what is not zero there.
func FlipByte(t testing.TB, path string, share float64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var used []int
	for i, b := range data {
		if b != 0 {
			used = append(used, i)
		}
	}
	if len(used) == 0 {
		t.Fatalf("%s is empty", path)
	}
	data[used[int(share*float64(len(used)-1))]] ^= 0x55
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
