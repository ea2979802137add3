package replication

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/walstore"
)

// These tests show a fault without its guard, and that it does not happen with it.
// doc.go of raftguard and of testenv list all guards and their tests.

// TestVerifyLeaderIsNotTrusted: raft's VerifyLeader confirms a leader that has contact
// to non-voters only. ReadIndex does not.
func TestVerifyLeaderIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, 1, 3, 2)
		l := s.leader()
		servers, _, err := l.life.Servers()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range servers {
			if m.Voter && m.ID != l.id {
				s.cutOff(raft.ServerAddress(m.ID), raft.ServerAddress(l.id))
				s.cutOff(raft.ServerAddress(l.id), raft.ServerAddress(m.ID))
			}
		}
		verified := make(chan error, 1)
		go func() { verified <- l.life.raft.VerifyLeader().Error() }()
		if _, err := l.life.ReadIndex(t.Context()); conf.CodeOf(err) != conf.CodeNoQuorum {
			t.Errorf("a read index without a majority: %v", err)
		}
		if err := <-verified; err != nil {
			t.Errorf("without the guard nothing happened: the test proves nothing: %v", err)
		}
		s.heal()
		for _, p := range s.finish() {
			t.Error(p)
		}
	})
}

// TestSnapshotBeforeTheStore: raft assumes that a snapshot on the disk is in the FSM too.
// Without Reconcile a node would continue from a store that lacks all of it.
func TestSnapshotBeforeTheStore(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, func(o *Options) { o.TrailingLogs = 1 })
	n.write(t, "router", 1, 20)
	snapshotNow(t, n)
	n.close(t)
	removeStore(t, dir) // as a crash between the two leaves it

	for _, guard := range []bool{false, true} {
		to := t.TempDir()
		copyDir(t, dir, to)
		n := &node{dir: to, st: openStore(t, to)}
		trans := transport(t)
		n.opts = Options{
			Dir: filepath.Join(to, "raft"), NodeID: "n1", FSM: n.st, Transport: trans, Advertise: string(trans.LocalAddr()),
			tuning: tuning{Heartbeat: 100 * time.Millisecond},
		}
		if err := n.opts.setDefaults(); err != nil {
			t.Fatal(err)
		}
		var logs *raftguard.ChecksumStore
		var snaps *raftguard.SnapshotStore
		var err error
		if guard {
			logs, snaps, err = openFiles(t.Context(), &n.opts)
		} else {
			var file raftguard.LogFile
			if file, err = walstore.Open(t.Context(), walstore.Options{Dir: n.opts.Dir, LockTimeout: time.Second, Logger: discard}); err != nil {
				t.Fatal(err)
			}
			logs = raftguard.NewChecksumStore(file)
			snaps, err = raftguard.OpenSnapshots(filepath.Join(n.opts.Dir, "snapshots"), discard)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n.Node, err = run(&n.opts, logs, snaps); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.close(t) })
		n.lead(t)
		if err := n.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		switch got := version(t, n.st, "router"); {
		case guard && got != 20:
			t.Fatalf("version %d of 20", got)
		case !guard && got == 20:
			t.Fatal("without the guard nothing happened: the test proves nothing")
		}
		n.close(t)
	}
}

// TestRaftsTransportIsNotReachable: raft's own transport allocates memory for each
// connection, and keeps it while the peer sends nothing. Ours passes a connection on
// after the handshake; TestIdleSockets of transport checks that.
func TestRaftsTransportIsNotReachable(t *testing.T) {
	const conns = 60
	trans := transport(t)
	defer trans.Close()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for range conns {
		c, err := net.Dial("tcp", string(trans.LocalAddr()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "raft to allocate memory for silent connections (else the guard is not needed)", func() bool {
		return (heap()-before)/conns > 200<<10
	})
}

// TestFlipsInTheTerm flips each bit of the term and the vote, wherever the log's
// file holds them: the node rejects the file, or has what was written. With a
// lower term it could vote twice.
func TestFlipsInTheTerm(t *testing.T) {
	template := t.TempDir()
	n := fresh(t, template, nil)
	n.write(t, "router", 1, 3)
	term := n.Term()
	n.close(t)
	path := filepath.Join("raft", "raft.db")
	data, err := os.ReadFile(filepath.Join(template, path))
	if err != nil {
		t.Fatal(err)
	}
	tried, refused := 0, 0
	for _, key := range []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"} {
		for at := 0; ; {
			i := bytes.Index(data[at:], []byte(key))
			if i < 0 {
				break
			}
			at += i + len(key)
			for off := range 8 {
				bad := bytes.Clone(data)
				bad[at+off] ^= 1 << (off % 8)
				dir := t.TempDir()
				copyDir(t, template, dir)
				if err := os.WriteFile(filepath.Join(dir, path), bad, 0o600); err != nil {
					t.Fatal(err)
				}
				tried++
				n, err := tryStart(t, dir, nil)
				if err != nil {
					wantCode(t, err, conf.CodeCorrupt)
					refused++
					continue
				}
				n.lead(t)
				if now := n.Term(); now <= term {
					t.Errorf("%s, byte %d: term %d after term %d", key, off, now, term)
				}
				wantVersion(t, n, "router", 3)
				n.close(t)
			}
		}
	}
	t.Logf("%d flips, %d refused, the rest in unused pages", tried, refused)
	if refused < 8 {
		t.Errorf("only %d of %d flips were refused", refused, tried)
	}
}

// selfWith runs this test binary again with another environment.
func selfWith(env string) ([]byte, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	return cmd.CombinedOutput()
}

const shortBatchEnv = "HOLDFAST_TEST_SHORT_BATCH"

// shortBatch is a state machine that answers a batch with too few results.
type shortBatch struct{ *raft.MockFSM }

func (shortBatch) ApplyBatch([]*raft.Log) []any { return nil }

// runShortBatch is the process of TestRaftWantsAnAnswerForEachEntry.
func runShortBatch() {
	o := Options{Dir: "unused", NodeID: "n1"}
	c := o.raftConfigOfATest()
	_, trans := raft.NewInmemTransport("n1")
	logs, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	self := raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "n1"}}}
	if err := raft.BootstrapCluster(c, logs, logs, snaps, trans, self); err != nil {
		fmt.Println(err)
		return
	}
	r, err := raft.NewRaft(c, shortBatch{&raft.MockFSM{}}, logs, logs, snaps, trans)
	if err != nil {
		fmt.Println(err)
		return
	}
	<-r.LeaderCh()
	fmt.Println(r.Apply([]byte("x"), time.Second).Error())
}

func (o *Options) raftConfigOfATest() *raft.Config {
	o.Heartbeat, o.Election, o.Lease = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	o.Commit, o.SnapshotInterval, o.SnapshotThreshold, o.Logger = time.Millisecond, time.Hour, 1000, discard
	return o.raftConfig()
}

// TestRaftWantsAnAnswerForEachEntry: raft ends the process when the state machine
// answers a batch with fewer results than it has entries. TestBatch checks that ours
// does not, whatever the batch contains.
func TestRaftWantsAnAnswerForEachEntry(t *testing.T) {
	out, err := selfWith(shortBatchEnv + "=1")
	if err == nil || !bytes.Contains(out, []byte("panic: invalid number of responses")) {
		t.Fatalf("without the guard nothing happened: the test proves nothing: %v: %.300s", err, out)
	}
	f, _ := newFSM(t)
	newer := encoded(t, edit("router", 1))
	newer[1] = 39
	for _, batch := range [][]*raft.Log{
		{{Index: 1, Type: raft.LogConfiguration}},
		{{Index: 2, Data: encoded(t, &command.Genesis{Epoch: testEpoch, At: testTime})}, {Index: 3, Type: raft.LogConfiguration}},
		{{Index: 2, Data: encoded(t, edit("router", 1))}, {Index: 4, Data: newer}, {Index: 5, Data: encoded(t, edit("router", 2))}},
		{{Index: 6, Data: nil}, {Index: 7, Data: nil}},
	} {
		if got := f.ApplyBatch(batch); len(got) != len(batch) {
			t.Fatalf("%d answers to %d entries", len(got), len(batch))
		}
	}
}
