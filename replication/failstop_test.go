package replication

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// failing is a log store with faults.
type failing struct {
	raftguard.LogFile
	get, store, set atomic.Pointer[error]
	panics          atomic.Bool
}

func (f *failing) GetLog(i uint64, l *raft.Log) error {
	if f.panics.Load() {
		panic("page 17 is no page")
	}
	if err := f.get.Load(); err != nil {
		return *err
	}
	return f.LogFile.GetLog(i, l)
}

func (f *failing) StoreLogs(l []*raft.Log) error {
	if err := f.store.Load(); err != nil {
		return *err
	}
	return f.LogFile.StoreLogs(l)
}

func (f *failing) Set(k, v []byte) error {
	if err := f.set.Load(); err != nil {
		return *err
	}
	return f.LogFile.Set(k, v)
}

// sabotaged starts a node whose log store can be made to fail. When hold is not nil,
// no election proceeds before it is closed.
func sabotaged(t *testing.T, dir string, hold <-chan struct{}) (*node, *failing) {
	t.Helper()
	n := &node{dir: dir, st: openStore(t, dir)}
	n.opts = Options{Dir: filepath.Join(dir, "raft"), NodeID: "n1", FSM: n.st, tuning: tuning{Heartbeat: 200 * time.Millisecond}}
	if err := n.opts.setDefaults(); err != nil {
		t.Fatal(err)
	}
	trans := transport(t)
	n.opts.Transport, n.opts.Advertise = trans, string(trans.LocalAddr())
	f := &failing{}
	n.opts.wrapLog = func(b raftguard.LogFile) raftguard.LogFile {
		f.LogFile = b
		if hold != nil {
			f.LogFile = heldBolt{b, hold}
		}
		return f
	}
	logs, snaps, err := openFiles(t.Context(), &n.opts)
	if err != nil {
		t.Fatal(err)
	}
	if n.Node, err = run(&n.opts, logs, snaps); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close(t) })
	return n, f
}

// heldBolt stores a vote, and so lets an election proceed, after hold only.
type heldBolt struct {
	raftguard.LogFile
	hold <-chan struct{}
}

func (h heldBolt) Set(k, v []byte) error {
	if bytes.HasPrefix(k, []byte("LastVote")) {
		<-h.hold
	}
	return h.LogFile.Set(k, v)
}

func faultOf(t *testing.T, n *node) error {
	t.Helper()
	select {
	case err := <-n.Fault():
		if err == nil {
			t.Fatal("the fault was received before")
		}
		if again, open := <-n.Fault(); again != nil || open {
			t.Fatal("the fault is received twice")
		}
		return err
	case <-time.After(patience):
		t.Fatal("no fault")
		return nil
	}
}

// TestFaultsOfTheLogAtRunTime makes the log fail on raft's own goroutines. The
// process survives it, Fault receives it, the node does not lead and can be stopped.
func TestFaultsOfTheLogAtRunTime(t *testing.T) {
	t.Run("append fails", func(t *testing.T) {
		dir := t.TempDir()
		fresh(t, dir, nil).close(t)
		n, f := sabotaged(t, dir, nil)
		n.lead(t).write(t, "router", 1, 3)
		full := error(syscall.ENOSPC)
		f.store.Store(&full)
		_, err := n.Propose(t.Context(), edit("router", 4))
		wantCode(t, err, conf.CodeOutcomeUnknown)
		wantCode(t, faultOf(t, n), conf.CodeStorageFull)
		if n.IsLeader() {
			t.Fatal("leads without a log")
		}
		_, err = n.Propose(t.Context(), edit("router", 4))
		wantCode(t, err, conf.CodeNoQuorum)
	})
	t.Run("term cannot be written", func(t *testing.T) {
		dir := t.TempDir()
		fresh(t, dir, nil).close(t)
		n, f := sabotaged(t, dir, nil)
		n.lead(t)
		broken := errors.New("input/output error")
		f.set.Store(&broken)
		other := transport(t)
		defer other.Close()
		vote := &raft.RequestVoteRequest{ // of a later term, which has to be stored
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte("127.0.0.1:1")},
			Term:      n.Term() + 1, LeadershipTransfer: true,
		}
		go func() { _ = other.RequestVote("n1", raft.ServerAddress(n.Addr()), vote, &raft.RequestVoteResponse{}) }()
		if err := faultOf(t, n); !errors.Is(err, broken) {
			t.Fatalf("fault %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := n.Propose(ctx, edit("router", 1))
		wantCode(t, err, conf.CodeNoQuorum)
	})
	t.Run("entry cannot be read", func(t *testing.T) {
		dir := t.TempDir()
		n := fresh(t, dir, nil)
		n.write(t, "router", 1, 10)
		n.close(t)
		removeStore(t, dir)
		hold := make(chan struct{})
		n, f := sabotaged(t, dir, hold)
		f.panics.Store(true) // raft has started, and is elected now
		close(hold)
		wantCode(t, faultOf(t, n), conf.CodeCorrupt)
		if v := version(t, n.st, "router"); v != 0 {
			t.Fatalf("applied up to version %d", v)
		}
	})
}
