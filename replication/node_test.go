package replication

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestWriteStopReopen(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 50)
	digest := n.st.Digest()
	before, _ := n.st.Applied()
	n.close(t)

	n = start(t, dir, nil)
	if got := n.st.Digest(); got != digest {
		t.Fatalf("digest %s after a restart, want %s", got, digest)
	}
	n.lead(t)
	n.write(t, "router", 51, 51)
	if after, _ := n.st.Applied(); after <= before {
		t.Fatalf("index %d after %d", after, before)
	}
	wantVersion(t, n, "router", 51)
	if err := n.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLoneVoterLeadsAtOnce(t *testing.T) {
	dir := t.TempDir()
	// With these timeouts an ordinary election would come after the test's patience.
	slow := func(o *Options) { o.Heartbeat, o.Lease = time.Hour, time.Hour }
	start(t, dir, slow).lead(t).close(t)
	start(t, dir, slow).lead(t)
}

func TestConcurrentProposals(t *testing.T) {
	n := fresh(t, t.TempDir(), nil)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() { n.write(t, fmt.Sprintf("service-%d", i), 1, 20) })
	}
	wg.Wait()
	for i := range 16 {
		wantVersion(t, n, fmt.Sprintf("service-%d", i), 20)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.IsSorted(n.applied) || len(n.applied) == 0 {
		t.Fatalf("OnApplied told %v", n.applied)
	}
	if last, _ := n.st.Applied(); n.applied[len(n.applied)-1] != last {
		t.Fatalf("OnApplied ended at %d, the store at %d", n.applied[len(n.applied)-1], last)
	}
}

func TestRefusalIsAResult(t *testing.T) {
	n := fresh(t, t.TempDir(), nil)
	n.write(t, "router", 1, 2)
	e := edit("router", 2)
	e.ID = "somebody-else"
	r, err := n.Propose(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if r.Err == nil || r.Err.Code != conf.CodeConflict || r.Err.Current != 2 {
		t.Fatalf("result %+v", r)
	}
	n.write(t, "router", 3, 3)
}

func TestProposeErrors(t *testing.T) {
	t.Run("follower", func(t *testing.T) {
		n := start(t, t.TempDir(), func(o *Options) { o.Join = true })
		_, err := n.Propose(t.Context(), edit("router", 1))
		wantCode(t, err, conf.CodeNoQuorum)
		wantCode(t, n.Barrier(t.Context()), conf.CodeNoQuorum)
		if n.IsLeader() || !n.LastContact().IsZero() {
			t.Fatal("a node that nobody added leads or heard from a leader")
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		n := fresh(t, t.TempDir(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := n.Propose(ctx, edit("router", 1))
		wantCode(t, err, conf.CodeNoQuorum)
	})
	t.Run("stopped", func(t *testing.T) {
		n := fresh(t, t.TempDir(), nil)
		n.close(t)
		_, err := n.Propose(t.Context(), edit("router", 1))
		wantCode(t, err, conf.CodeNoQuorum)
	})
	t.Run("cannot be encoded", func(t *testing.T) {
		n := fresh(t, t.TempDir(), nil)
		if _, err := n.Propose(t.Context(), edit("No Name", 1)); err == nil {
			t.Fatal("no error")
		}
		n.write(t, "router", 1, 1)
	})
}

func TestLeaderChTellsTheNewest(t *testing.T) {
	n := start(t, t.TempDir(), nil)
	if !<-n.LeaderCh() {
		t.Fatal("the first news is not leadership")
	}
	if d := time.Since(n.LastContact()); d > time.Minute {
		t.Fatalf("a leader heard from the leader %v ago", d)
	}
	if id, addr := n.Leader(); id != "n1" || addr != n.Addr() {
		t.Fatalf("leader %s at %s", id, addr)
	}
	n.close(t)
	if leading, open := <-n.LeaderCh(); leading {
		t.Fatalf("leading %v, open %v after Stop", leading, open)
	}
}

func TestAddressChange(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 3)
	old := n.Addr()
	n.close(t)
	n = start(t, dir, func(o *Options) { o.Transport = transportOn(t, "127.0.0.2:0") }).lead(t)
	if n.Addr() == old {
		t.Fatal("the address did not change")
	}
	n.write(t, "router", 4, 4)
	eventually(t, "the new address is recorded", func() bool {
		s := n.raft.GetConfiguration().Configuration().Servers
		return len(s) == 1 && string(s[0].Address) == n.Addr()
	})
	n.close(t)
	start(t, dir, nil).lead(t)
}

func TestSecondOpenIsLocked(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	_, err := Open(t.Context(), Options{
		Dir: n.opts.Dir, NodeID: "n1", Transport: transport(t), FSM: n.st, tuning: tuning{LockTimeout: 50 * time.Millisecond},
	})
	wantCode(t, err, conf.CodeLocked)
	n.write(t, "router", 1, 1)
}

func TestAnotherNodesData(t *testing.T) {
	dir := t.TempDir()
	fresh(t, dir, nil).close(t)
	_, err := tryStart(t, dir, func(o *Options) { o.NodeID = "n2" })
	wantCode(t, err, conf.CodeInvalid)
	if !strings.Contains(conf.HintOf(err), "n1") {
		t.Fatalf("hint %q does not name the node", conf.HintOf(err))
	}
}

func TestJoinWithData(t *testing.T) {
	dir := t.TempDir()
	fresh(t, dir, nil).close(t)
	setAside(t, filepath.Join(dir, "raft"))
	_, err := tryStart(t, dir, func(o *Options) { o.Join = true })
	wantCode(t, err, conf.CodeCorrupt)
}

func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 3)
	snapshotNow(t, n)
	files := 0
	err := filepath.WalkDir(n.opts.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files++
		return nil
	})
	if err != nil || files < 5 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no directory": {NodeID: "n1"},
		"no node id":   {Dir: t.TempDir()},
		"no machine":   {Dir: t.TempDir(), NodeID: "n1"},
	} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func (n *node) addVoter(tb testing.TB, id string, addr string) {
	tb.Helper()
	if err := n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, patience).Error(); err != nil {
		tb.Fatalf("add %s: %v", id, err)
	}
}

func TestThreeNodes(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	var nodes [3]*node
	ports := base.FreePorts(t, len(nodes)) // a member restarts with its address
	options := func(i int) func(*Options) {
		return func(o *Options) {
			o.NodeID, o.Join, o.TrailingLogs = fmt.Sprintf("n%d", i+1), i > 0, 1
			o.Heartbeat, o.Lease = 5*time.Second, 5*time.Second // a busy machine must not depose the leader
			o.Transport = transportOn(t, fmt.Sprintf("127.0.0.1:%d", ports[i]))
		}
	}
	nodes[0] = fresh(t, dirs[0], options(0))
	nodes[0].write(t, "router", 1, 20)
	snapshotNow(t, nodes[0]) // the log is truncated: a new member gets the snapshot
	restored := make(chan struct{}, 10)
	for i := 1; i < 3; i++ {
		nodes[i] = start(t, dirs[i], func(o *Options) {
			options(i)(o)
			o.OnRestored = func() { restored <- struct{}{} }
		})
		nodes[0].addVoter(t, nodes[i].opts.NodeID, nodes[i].Addr())
		wantVersion(t, nodes[i], "router", 20)
		<-restored
	}
	nodes[0].write(t, "router", 21, 30)
	same := func() bool {
		return nodes[0].st.Digest() == nodes[1].st.Digest() && nodes[0].st.Digest() == nodes[2].st.Digest()
	}
	eventually(t, "all three are the same", same)
	if c := nodes[1].LastContact(); time.Since(c) > time.Minute {
		t.Fatalf("a follower heard from the leader at %v", c)
	}

	nodes[0].close(t) // transfers the leadership
	var leader *node
	eventually(t, "another one leads", func() bool {
		for _, n := range nodes[1:] {
			if n.IsLeader() {
				leader = n
			}
		}
		return leader != nil
	})
	leader.write(t, "router", 31, 40)
	nodes[0] = start(t, dirs[0], options(0))
	wantVersion(t, nodes[0], "router", 40)
	eventually(t, "all three are the same again", same)
}

// A member never starts from an empty log if it had one before, nor from one that
// ends below what it has served.
func TestMemberWithLessThanItPromised(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"begun": func(o *Options) { o.HadLog = true },
		"seen":  func(o *Options) { o.MinIndex = 1 },
	} {
		_, err := tryStart(t, t.TempDir(), func(o *Options) { o.Join = true; change(o) })
		if conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: an empty log: %v", name, err)
		}
	}
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 3)
	last, _ := n.Indexes()
	n.close(t)
	_, err := tryStart(t, dir, func(o *Options) { o.Join, o.HadLog, o.MinIndex = true, true, last+1 })
	wantCode(t, err, conf.CodeCorrupt)
	start(t, dir, func(o *Options) { o.Join, o.HadLog, o.MinIndex = true, true, last }).close(t)
}
