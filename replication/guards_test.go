package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/command"
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
		if stored, led := strayTerm(t, false); stored > led+1 {
			strays++
		}
		if stored, led := strayTerm(t, true); stored != 0 && stored != led {
			// After the heartbeat it may stand again and win; it then leads what it stores in.
			if stored <= led+10 {
				t.Fatalf("stored under term %d, but led term %d", stored, led)
			}
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
			s := &haltingStore{&checkedStore{f}, newFault()}
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
	s := &haltingStore{checked, newFault()}
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

// machine is a Machine with faults in front of a real one.
type machine struct {
	Machine
	apply func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error)
	calls atomic.Int64
}

func (m *machine) Apply(ctx context.Context, e []store.Entry) ([]command.Result, []*conf.Record, error) {
	m.calls.Add(1)
	next := func() ([]command.Result, []*conf.Record, error) { return m.Machine.Apply(ctx, e) }
	if m.apply == nil {
		return next()
	}
	return m.apply(next)
}

func TestLockedMachineIsRetried(t *testing.T) {
	var locked atomic.Bool
	var m *machine
	told := make(chan error, 10)
	n := fresh(t, t.TempDir(), func(o *Options) {
		m = &machine{Machine: o.Machine}
		m.apply = func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			if locked.Load() {
				return nil, nil, conf.Errorf(conf.CodeLocked, "somebody has it")
			}
			return next()
		}
		o.Machine, o.OnBlocked = m, func(err error) { told <- err }
	})
	n.write(t, "router", 1, 1)
	locked.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := n.Propose(context.WithoutCancel(t.Context()), edit("router", 2))
		result <- err
	}()
	wantCode(t, <-told, conf.CodeLocked)
	wantCode(t, n.Blocked(), conf.CodeLocked)
	calls := m.calls.Load()
	eventually(t, "it is tried again", func() bool { return m.calls.Load() > calls+3 })
	if n.Stats()["blocked"] == "" || n.Err() != nil {
		t.Fatal("blocked, but it does not say so, or calls it a fault")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := n.Propose(ctx, edit("other", 1)) // queues behind it: nobody knows
	wantCode(t, err, conf.CodeOutcomeUnknown)
	locked.Store(false)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil || n.Blocked() != nil {
		t.Fatalf("still blocked: %v", err)
	}
	wantVersion(t, n, "other", 1)
}

func TestStopWhileLocked(t *testing.T) {
	dir := t.TempDir()
	var locked atomic.Bool
	told := make(chan error, 1)
	n := fresh(t, dir, func(o *Options) {
		o.Machine = &machine{Machine: o.Machine, apply: func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			if locked.Load() {
				return nil, nil, conf.Errorf(conf.CodeLocked, "somebody has it")
			}
			return next()
		}}
		o.OnBlocked = func(err error) {
			if err != nil {
				told <- err
			}
		}
	})
	locked.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := n.Propose(context.WithoutCancel(t.Context()), edit("router", 1))
		result <- err
	}()
	<-told
	n.close(t)
	wantCode(t, <-result, conf.CodeOutcomeUnknown)
	n = start(t, dir, nil).lead(t) // it was in the log all the time
	wantVersion(t, n, "router", 1)
}

func TestFaultsOfTheMachine(t *testing.T) {
	for name, apply := range map[string]func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error){
		"error": func(func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			return nil, nil, conf.Errorf(conf.CodeCorrupt, "a page is damaged")
		},
		"panic": func(func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			panic("index out of range")
		},
		"wrong number of results": func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			_, recs, err := next()
			return nil, recs, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var broken atomic.Bool
			var m *machine
			n := fresh(t, dir, func(o *Options) {
				m = &machine{Machine: o.Machine, apply: func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
					if broken.Load() {
						return apply(next)
					}
					return next()
				}}
				o.Machine = m
			})
			n.write(t, "router", 1, 3)
			broken.Store(true)
			_, err := n.Propose(t.Context(), edit("router", 4))
			wantCode(t, err, conf.CodeOutcomeUnknown)
			if err := faultOf(t, n); err == nil || n.Err() == nil {
				t.Fatal("no fault")
			}
			broken.Store(false)
			calls := m.calls.Load()
			_, err = n.Propose(t.Context(), edit("other", 1))
			wantCode(t, err, conf.CodeNoQuorum)
			// Even what raft hands over is not applied any more.
			if out := n.fsm.ApplyBatch([]*raft.Log{{Index: 1 << 40, Data: encoded(t, edit("other", 1))}}); out[0] == nil || m.calls.Load() != calls {
				t.Fatalf("applied behind a fault: %v", out)
			}
			if _, err := n.fsm.Snapshot(); err == nil {
				t.Fatal("a snapshot behind a fault")
			}
			if n.Leading() || n.Barrier(t.Context()) == nil || n.Snapshot(t.Context()) == nil {
				t.Fatal("goes on behind a fault")
			}
			n.close(t)
			n = start(t, dir, nil).lead(t) // repaired: nothing is lost
			wantVersion(t, n, "router", 4)
		})
	}
}

func encoded(tb testing.TB, c command.Command) []byte {
	tb.Helper()
	b, err := command.Encode(c)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// newFSM is a state machine without raft.
func newFSM(tb testing.TB) (*fsm, *store.Store) {
	tb.Helper()
	st := openStore(tb, tb.TempDir())
	tb.Cleanup(func() { st.Close() })
	return &fsm{
		machine: st, fault: newFault(), log: discard, ctx: tb.Context(), stop: make(chan struct{}),
		onApplied: func(uint64, []*conf.Record) {}, onRestored: func() {}, onBlocked: func(error) {},
	}, st
}

func TestBatch(t *testing.T) {
	f, st := newFSM(t)
	var told []string
	f.onApplied = func(index uint64, recs []*conf.Record) { told = append(told, fmt.Sprint(index, len(recs))) }
	entry := func(index uint64, c command.Command) *raft.Log {
		return &raft.Log{Index: index, Term: 2, Data: encoded(t, c)}
	}
	genesis := entry(2, &command.Genesis{Epoch: testEpoch, At: testTime})
	first := entry(5, edit("router", 1))
	batch := []*raft.Log{{Index: 1, Type: raft.LogConfiguration}, genesis, {Index: 4, Type: raft.LogConfiguration}, first, entry(6, edit("router", 2))}
	out := f.ApplyBatch(batch)
	if len(out) != len(batch) || out[0] != nil || out[2] != nil {
		t.Fatalf("responses %v", out)
	}
	if r := out[4].(command.Result); r.Err != nil || r.Versions["router"] != 2 || r.Index != 6 {
		t.Fatalf("result %+v", r)
	}
	if r := f.Apply(first).(command.Result); !r.Duplicate || r.Index != 5 {
		t.Fatalf("an entry that was applied before: %+v", r)
	}
	if out := f.ApplyBatch([]*raft.Log{{Index: 7, Type: raft.LogConfiguration}}); len(out) != 1 || out[0] != nil {
		t.Fatalf("responses %v", out)
	}
	if index, term := st.Applied(); index != 6 || term != 2 || f.seen != 7 {
		t.Fatalf("applied %d in term %d, seen %d", index, term, f.seen)
	}
	if !slices.Equal(told, []string{"6 1"}) {
		t.Fatalf("OnApplied told %v", told)
	}
}

func TestUndecodableEntries(t *testing.T) {
	newer := encoded(t, edit("router", 1))
	newer[0]++
	for name, c := range map[string]struct {
		data []byte
		code conf.Code
	}{
		"empty":       {nil, conf.CodeCorrupt},
		"garbage":     {[]byte("\x01\x02garbage"), conf.CodeCorrupt},
		"newer build": {newer, conf.CodeUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			f, st := newFSM(t)
			out := f.ApplyBatch([]*raft.Log{{Index: 1, Data: c.data}, {Index: 2, Data: encoded(t, edit("router", 1))}})
			if len(out) != 2 || out[1] == nil {
				t.Fatalf("responses %v", out)
			}
			wantCode(t, f.fault.Err(), c.code)
			if !strings.Contains(f.fault.Err().Error(), "log entry 1") {
				t.Fatalf("%v does not say which entry", f.fault.Err())
			}
			if index, _ := st.Applied(); index != 0 {
				t.Fatalf("applied up to %d", index)
			}
		})
	}
}

// TestNoSnapshotBeforeTheLogIsReadAgain: its index would be lower than its content's.
func TestNoSnapshotBeforeTheLogIsReadAgain(t *testing.T) {
	f, _ := newFSM(t)
	entries := []*raft.Log{{Index: 2, Term: 1, Data: encoded(t, &command.Genesis{Epoch: testEpoch, At: testTime})}, {Index: 3, Term: 1, Data: encoded(t, edit("router", 1))}}
	f.ApplyBatch(entries)
	again, _ := newFSM(t) // a new run over the same machine
	again.machine = f.machine
	again.ApplyBatch(entries[:1])
	if _, err := again.Snapshot(); err == nil {
		t.Fatal("a snapshot with content from behind its index")
	}
	again.ApplyBatch(entries[1:])
	s, err := again.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	s.Release()
}

func TestRestoreOfDamagedState(t *testing.T) {
	for _, data := range []string{"", "HFSTATE1", "HFSTATE2" + strings.Repeat("x", 16), "HFSTATE1" + strings.Repeat("\x00", 16) + "nothing"} {
		f, _ := newFSM(t)
		if err := f.Restore(io.NopCloser(strings.NewReader(data))); err == nil || f.fault.Err() == nil {
			t.Errorf("%q: error %v, fault %v", data, err, f.fault.Err())
		}
	}
}

func TestFaultIsToldOnce(t *testing.T) {
	f := newFault()
	if f.Err() != nil {
		t.Fatal("a fault before one")
	}
	for i := range 3 {
		f.trip(fmt.Errorf("fault %d", i))
	}
	if err := <-f.out; err == nil || err.Error() != "fault 0" {
		t.Fatalf("told %v", err)
	}
	if err, open := <-f.out; err != nil || open {
		t.Fatal("told twice")
	}
}
