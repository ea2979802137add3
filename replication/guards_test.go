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
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

func transport(tb testing.TB) raft.Transport {
	tb.Helper()
	o := Options{Addr: "127.0.0.1:0"}
	o.Dir, o.NodeID, o.Machine = "unused", "unused", &store.Store{}
	if err := o.setDefaults(); err != nil {
		tb.Fatal(err)
	}
	t, err := newTCPTransport(&o)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// strayTerm sends a leader a heartbeat of a later term and then proposes an
// entry. It returns the term under which the entry was stored, 0 when it was
// refused, and the term that the node led.
func strayTerm(t *testing.T, guard bool) (stored, led uint64) {
	t.Helper()
	trans, other := transport(t), transport(t)
	defer slowHeartbeats{other}.Close()
	if guard {
		trans = slowHeartbeats{trans}
	}
	logs := raft.NewInmemStore()
	o := Options{Dir: "unused", NodeID: "n1", Machine: &store.Store{}}
	if err := o.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := o.raftConfig()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	snaps := raft.NewInmemSnapshotStore()
	self := raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: trans.LocalAddr()}}}
	if err := raft.BootstrapCluster(c, logs, logs, snaps, trans, self); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, &raft.MockFSM{}, logs, logs, snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Shutdown().Error() }()
	eventually(t, "leading", func() bool { return r.State() == raft.Leader })
	if err := r.Barrier(patience).Error(); err != nil {
		t.Fatal(err)
	}
	led = r.CurrentTerm()
	// The lease of a lone voter is checked every 50 ms at most: the loop sleeps in
	// its select when this arrives.
	beat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n2"), Addr: []byte(other.LocalAddr())},
		Term:      led + 10,
	}
	if err := other.AppendEntries("n1", trans.LocalAddr(), beat, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	f := r.Apply([]byte("x"), patience)
	_ = f.Error()
	var l raft.Log
	if i := f.Index(); i > 0 && logs.GetLog(i, &l) == nil && string(l.Data) == "x" {
		return l.Term, led
	}
	return 0, led
}

// TestHeartbeatFastPath shows the guard at work, and that without it an entry is
// stored under a term that the node never led.
func TestHeartbeatFastPath(t *testing.T) {
	strays := 0
	for range 10 {
		// It may stand again and win, and then leads a later term than led+10.
		if stored, led := strayTerm(t, false); stored == led+10 {
			strays++
		}
		if stored, led := strayTerm(t, true); stored == led+10 {
			t.Fatalf("stored under term %d, but led term %d", stored, led)
		}
	}
	if strays == 0 {
		t.Fatal("without the guard nothing happened: the test proves nothing")
	}
}

func openLogs(tb testing.TB) (*checkedStore, *raftboltdb.BoltStore) {
	tb.Helper()
	b, err := openBolt(tb.Context(), filepath.Join(tb.TempDir(), "raft.db"), time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return &checkedStore{b}, b
}

func TestEntryChecksum(t *testing.T) {
	s, inner := openLogs(t)
	give := &raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("some data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1, 0)}
	if err := s.StoreLog(give); err != nil {
		t.Fatal(err)
	}
	if string(give.Extensions) != "ext" {
		t.Fatal("the caller's entry was changed")
	}
	var got raft.Log
	if err := s.GetLog(7, &got); err != nil || string(got.Data) != "some data" || string(got.Extensions) != "ext" {
		t.Fatalf("read %+v, %v", got, err)
	}
	if err := s.GetLog(8, &got); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("an entry that is not there: %v", err)
	}
	for name, change := range map[string]func(*raft.Log){
		"index":      func(l *raft.Log) { l.Index = 8 },
		"term":       func(l *raft.Log) { l.Term++ },
		"type":       func(l *raft.Log) { l.Type = raft.LogNoop },
		"data":       func(l *raft.Log) { l.Data[3] ^= 4 },
		"extensions": func(l *raft.Log) { l.Extensions[0] ^= 4 },
		"sum":        func(l *raft.Log) { l.Extensions[len(l.Extensions)-1] ^= 4 },
		"no sum":     func(l *raft.Log) { l.Extensions = nil },
	} {
		var l raft.Log
		if err := inner.GetLog(7, &l); err != nil {
			t.Fatal(err)
		}
		change(&l)
		at := l.Index
		if err := inner.StoreLog(&l); err != nil {
			t.Fatal(err)
		}
		if err := inner.GetLog(at, &l); err != nil {
			t.Fatalf("%s: the log store itself found it: %v", name, err)
		}
		if err := openLog(7, &l); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s was changed and it went unnoticed: %v", name, err)
		}
		if err := s.StoreLog(give); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEntryWithoutExtensions(t *testing.T) {
	s, _ := openLogs(t)
	if err := s.StoreLog(&raft.Log{Index: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	var got raft.Log
	if err := s.GetLog(1, &got); err != nil || got.Extensions != nil {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestStableChecksum(t *testing.T) {
	s, inner := openLogs(t)
	if _, err := s.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
		t.Fatalf("raft compares the text of this error: %v", err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 9); err != nil {
		t.Fatal(err)
	}
	if v, err := s.GetUint64([]byte("CurrentTerm")); v != 9 || err != nil {
		t.Fatalf("%d, %v", v, err)
	}
	raw, err := inner.Get([]byte("CurrentTerm"))
	if err != nil {
		t.Fatal(err)
	}
	raw[7] ^= 2
	if err := inner.Set([]byte("CurrentTerm"), raw); err != nil {
		t.Fatal(err)
	}
	_, err = s.GetUint64([]byte("CurrentTerm"))
	wantCode(t, err, conf.CodeCorrupt)
	if err := inner.Set([]byte("LastVoteTerm"), raw); err != nil { // a value under another's key
		t.Fatal(err)
	}
	_, err = s.GetUint64([]byte("LastVoteTerm"))
	wantCode(t, err, conf.CodeCorrupt)
}

// failing is a log store with faults.
type failing struct {
	bolt
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
	return f.bolt.GetLog(i, l)
}

func (f *failing) StoreLogs(l []*raft.Log) error {
	if err := f.store.Load(); err != nil {
		return *err
	}
	return f.bolt.StoreLogs(l)
}

func (f *failing) Set(k, v []byte) error {
	if err := f.set.Load(); err != nil {
		return *err
	}
	return f.bolt.Set(k, v)
}

func TestHaltEndsTheCaller(t *testing.T) {
	checked, inner := openLogs(t)
	for i := uint64(1); i <= 3; i++ {
		if err := checked.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	bad := errors.New("does not decode")
	for name, c := range map[string]struct {
		arm  func(*failing)
		call func(*haltingStore) error
	}{
		"read":         {func(f *failing) { f.get.Store(&bad) }, func(s *haltingStore) error { return s.GetLog(2, &raft.Log{}) }},
		"panic":        {func(f *failing) { f.panics.Store(true) }, func(s *haltingStore) error { return s.GetLog(2, &raft.Log{}) }},
		"missing":      {func(f *failing) { e := raft.ErrLogNotFound; f.get.Store(&e) }, func(s *haltingStore) error { return s.GetLog(2, &raft.Log{}) }},
		"stable write": {func(f *failing) { f.set.Store(&bad) }, func(s *haltingStore) error { return s.SetUint64([]byte("CurrentTerm"), 5) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failing{bolt: inner}
			c.arm(f)
			s := &haltingStore{&checkedStore{f}, newFault(), new(pace)}
			done := make(chan bool, 1)
			go func() {
				returned := false
				defer func() { done <- returned }()
				_ = c.call(s)
				returned = true
			}()
			if <-done {
				t.Fatal("the call came back to raft, which would panic")
			}
			if s.fault.Err() == nil {
				t.Fatal("no fault")
			}
		})
	}
	s := &haltingStore{checked, newFault(), new(pace)}
	if err := s.GetLog(9, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) || s.fault.Err() != nil {
		t.Fatalf("an entry behind the end: %v, fault %v", err, s.fault.Err())
	}
}

// sabotaged starts a member whose log store can be made to fail. When hold is
// not nil, no election goes on before it is closed.
func sabotaged(t *testing.T, dir string, hold <-chan struct{}) (*node, *failing) {
	t.Helper()
	n := &node{dir: dir, st: openStore(t, dir)}
	n.opts = Options{Dir: filepath.Join(dir, "raft"), NodeID: "n1", Machine: n.st, Heartbeat: 200 * time.Millisecond}
	if err := n.opts.setDefaults(); err != nil {
		t.Fatal(err)
	}
	b, err := openBolt(t.Context(), filepath.Join(n.opts.Dir, "raft.db"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := openSnapshots(filepath.Join(n.opts.Dir, "snapshots"), discard)
	if err != nil {
		t.Fatal(err)
	}
	trans, f := slowHeartbeats{transport(t)}, &failing{bolt: b}
	if hold != nil {
		trans, f = slowHeartbeats{heldTransport{trans, hold}}, &failing{bolt: heldBolt{b, hold}}
	}
	n.opts.Advertise = string(trans.LocalAddr())
	if err := reconcile(t.Context(), &n.opts, &checkedStore{b}, snaps); err != nil {
		t.Fatal(err)
	}
	if n.Member, err = run(&n.opts, &checkedStore{f}, snaps, trans); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close(t) })
	return n, f
}

// heldTransport sends the message that hurries the election after hold only.
type heldTransport struct {
	slowHeartbeats
	hold <-chan struct{}
}

func (h heldTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	<-h.hold
	return h.slowHeartbeats.TimeoutNow(id, to, req, resp)
}

// heldBolt stores a vote, and so lets an election go on, after hold only.
type heldBolt struct {
	bolt
	hold <-chan struct{}
}

func (h heldBolt) Set(k, v []byte) error {
	if bytes.HasPrefix(k, []byte("LastVote")) {
		<-h.hold
	}
	return h.bolt.Set(k, v)
}

func faultOf(t *testing.T, n *node) error {
	t.Helper()
	select {
	case err := <-n.Fault():
		if err == nil {
			t.Fatal("the fault was told before")
		}
		if again, open := <-n.Fault(); again != nil || open {
			t.Fatal("the fault is told twice")
		}
		return err
	case <-time.After(patience):
		t.Fatal("no fault")
		return nil
	}
}

// TestFaultsOfTheLogAtRunTime has raft's own goroutines meet a broken log. The
// process survives it, the fault is told, the node does not lead and can be stopped.
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
		if n.Leading() {
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
		defer slowHeartbeats{other}.Close()
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
