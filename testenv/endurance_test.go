package testenv

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Long runs, each by its flag: go test ./testenv -run NAME -v -timeout 0 -args -FLAG=...
var (
	outage   = flag.Duration("outage", 2*time.Second, "how long TestReadsThroughAnOutage goes without a quorum")
	rate     = flag.Int("rate", 500, "reads a second in TestReadsThroughAnOutage")
	saturate = flag.Duration("saturate", 0, "how long TestNoFalseElection saturates all processors; 0 skips it")
	sidecars = flag.Int("sidecars", 0, "how many sidecars TestManySidecars starts; 0 skips it")
)

// TestReadsThroughAnOutage reads at a fixed rate from the one server that is left,
// and fails when a single read does. The long run: -outage=1m -rate=10000.
func TestReadsThroughAnOutage(t *testing.T) {
	c := StartCluster(t, 3, 0)
	v := c.Nodes[0].Patch("router", `{"router_stream_min_chars":41}`)
	for _, n := range c.Nodes {
		awaitVersion(t, n, "router", v)
	}
	leader, followers := c.Servers()
	gone := []*Node{leader, followers[0]}
	left := c.Except(gone...)[0]
	const conns = 16
	var reads, failed atomic.Int64
	var last atomic.Value
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			read, err := rawReader(t, left.LocalAddr, "/v1/config/router", fmt.Sprintf(`"version":%d`, v))
			every := conns * time.Second / time.Duration(*rate)
			next := time.NewTimer(0)
			defer next.Stop()
			for due := time.Now(); ; due = due.Add(every) { // what was late is made up for
				next.Reset(max(0, time.Until(due)))
				select {
				case <-stop:
					return
				case <-next.C:
				}
				if err == nil {
					err = read()
				}
				reads.Add(1)
				if err != nil {
					failed.Add(1)
					last.Store(err.Error())
					return
				}
			}
		})
	}
	for _, n := range gone {
		n.Kill()
	}
	Await(t, "writes to be refused for want of a quorum", func() bool {
		r := patchRouter(left, 42)
		return r.Status == http.StatusServiceUnavailable && r.Failure().Code == conf.CodeNoQuorum
	})
	var made, want float64
	for try := 1; try == 1 || (made < want/2 && try <= 3); try++ { // once it may be the machine
		before, began := reads.Load(), time.Now()
		timer := time.NewTimer(*outage)
		<-timer.C
		took := time.Since(began)
		made, want = float64(reads.Load()-before), float64(*rate)*took.Seconds()
		t.Logf("%.0f reads in %v without a quorum (%.0f a second)", made, took.Round(time.Millisecond), made/took.Seconds())
	}
	for _, n := range gone {
		n.Start()
	}
	c.Nodes[0].AwaitUp()
	c.Nodes[1].AwaitUp()
	c.Nodes[2].AwaitUp()
	c.AwaitVoters(3)
	close(stop)
	wg.Wait()
	t.Logf("%d reads in all, %d failed", reads.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d reads failed, such as: %v", failed.Load(), last.Load())
	}
	if made < want/2 {
		t.Errorf("only %.0f reads were made, of %.0f", made, want)
	}
	c.CheckInvariants(t, nil)
}

// rawReader makes reads on one connection, with as little work as it takes to be
// sure of the answer.
func rawReader(t *testing.T, addr, path, want string) (read func() error, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	in := bufio.NewReader(c)
	req := []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
	return func() error {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write(req); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var body strings.Builder
		if _, err := bufio.NewReader(resp.Body).WriteTo(&body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(body.String(), want) {
			return fmt.Errorf("%s: %s", resp.Status, body.String())
		}
		return nil
	}, nil
}

// TestNoFalseElection keeps every processor busy beside three servers that take
// a few changes: nobody may take the leader for dead. The long run: -saturate=10m.
func TestNoFalseElection(t *testing.T) {
	if *saturate == 0 {
		t.Log("nothing was run: -saturate is not given")
		return
	}
	c := StartCluster(t, 3, 0)
	for range numCPU() {
		Spawn(t, t.TempDir(), nil, "sh", "-c", "while :; do :; done")
	}
	leader := c.Leader()
	st := status(t, leader)
	end := time.Now().Add(*saturate)
	writes, refused := 0, 0
	var slowest time.Duration
	for i := 0; time.Now().Before(end); i++ {
		began := time.Now()
		if r := patchRouter(c.Nodes[i%3], 1+i%1000); r.Status == http.StatusOK {
			writes++
			slowest = max(slowest, time.Since(began))
		} else {
			refused++
			t.Logf("%v: %s", time.Until(end), r)
		}
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
	}
	now := status(t, leader)
	t.Logf("%v: term %d, was %d; leader %s, was %s; %d writes, the slowest %v, %d refused", *saturate, now.Term, st.Term, now.Leader, st.Leader, writes, slowest, refused)
	if now.Term != st.Term || now.Leader != st.Leader {
		t.Errorf("an election that nobody needed: term %d -> %d, leader %s -> %s", st.Term, now.Term, st.Leader, now.Leader)
	}
}

func numCPU() int {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 2
	}
	return strings.Count(string(data), "processor\t")
}

// usage is what a process has used: its resident memory in MB, and CPU seconds.
func usage(t *testing.T, pid int) (rss, cpu float64) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	pages, _ := strconv.ParseFloat(f[21], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), (user + system) / 100
}

// TestManySidecars measures what a sidecar costs the leader, and how soon a new
// one has a store of 10 MB. The long run: -sidecars=50.
func TestManySidecars(t *testing.T) {
	if *sidecars == 0 {
		t.Log("nothing was run: -sidecars is not given")
		return
	}
	cluster := NewAgent(t, "CONFIG_NODE_ID=n1")
	cluster.Start()
	cluster.AwaitNormal()
	addr := cluster.env["CONFIG_CLUSTER_ADDR"]
	member := func(id, tokenFile string) *Agent {
		a := NewAgent(t, "CONFIG_NODE_ID="+id, "CONFIG_JOIN="+addr, "CONFIG_JOIN_TOKEN_FILE="+cluster.Path(tokenFile))
		a.Start()
		return a
	}
	servers := []*Agent{cluster, member("n2", "join-token"), member("n3", "join-token")}
	awaitStatus := func(what string, cond func(conf.ClusterStatus) bool) {
		t.Helper()
		n := &Node{Agent: cluster}
		Await(t, what, func() bool { st, ok := n.Status(); return ok && cond(st) })
	}
	awaitStatus("three voters", func(st conf.ClusterStatus) bool { return st.Voters == 3 && st.Quorum })
	leaderPid := func() int {
		st, _ := (&Node{Agent: cluster}).Status()
		for i, a := range servers {
			if st.Leader == fmt.Sprintf("n%d", i+1) {
				return a.proc.Pid()
			}
		}
		t.Fatal("no leader")
		return 0
	}
	const window = 20 * time.Second
	measure := func(n int) (rss, cores float64) {
		pid := leaderPid()
		timer := time.NewTimer(5 * time.Second) // what joining left behind
		<-timer.C
		_, before := usage(t, pid)
		timer.Reset(window)
		<-timer.C
		rss, after := usage(t, pid)
		cores = (after - before) / window.Seconds()
		t.Logf("%d sidecars: the leader has %.1f MB and uses %.2f %% of a core, idle", n, rss, 100*cores)
		return rss, cores
	}
	rss0, cpu0 := measure(0)
	var side []*Agent
	for i := range *sidecars {
		side = append(side, member(fmt.Sprintf("s%d", i+1), "join-token-sidecar"))
		if i%5 == 4 {
			for _, a := range side[i-4:] {
				a.AwaitNormal()
			}
		}
	}
	awaitStatus("all sidecars to be up to date", func(st conf.ClusterStatus) bool {
		for _, n := range st.Nodes {
			if !n.Reachable || n.LagEntries > 0 {
				return false
			}
		}
		return len(st.Nodes) == 3+*sidecars
	})
	rss, cpu := measure(*sidecars)
	n := float64(*sidecars)
	t.Logf("a sidecar costs the leader %.2f MB and %.3f %% of a core", (rss-rss0)/n, 100*(cpu-cpu0)/n)

	const documents, size = 20, 512 << 10
	for i := range documents {
		s := fmt.Sprintf("big-%d", i)
		cluster.Admin("PUT", "/api/config/schemas/"+s, registerSchema, "Content-Type: application/json").OK(t)
		cluster.Admin("PATCH", "/api/config/services/"+s, fmt.Sprintf(`{"v":%q}`, strings.Repeat("0123456789abcdef", size/16)), "Content-Type: application/json").OK(t)
	}
	began := time.Now()
	late := member("late", "join-token-sidecar")
	Await(t, "the new sidecar to serve all of it", func() bool {
		for i := range documents {
			if d, err := late.TryDocument(fmt.Sprintf("big-%d", i)); err != nil || d.Source != "replica" {
				return false
			}
		}
		return true
	})
	t.Logf("a new sidecar served a store of %d MB, all of it from its own replica, %v after its start", documents*size>>20, time.Since(began).Round(time.Millisecond))
}
