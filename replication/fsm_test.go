package replication

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/store"
)

// machine is an FSM with faults in front of a real one.
type machine struct {
	FSM
	apply func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error)
	calls atomic.Int64
}

func (m *machine) Apply(ctx context.Context, e []store.Entry) ([]command.Result, []*conf.Record, error) {
	m.calls.Add(1)
	next := func() ([]command.Result, []*conf.Record, error) { return m.FSM.Apply(ctx, e) }
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
		m = &machine{FSM: o.FSM}
		m.apply = func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			if locked.Load() {
				return nil, nil, conf.Errorf(conf.CodeLocked, "another process has it")
			}
			return next()
		}
		o.FSM, o.OnBlocked = m, func(err error) { told <- err }
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
	if n.Blocked() == nil || n.Err() != nil {
		t.Fatal("blocked, but it does not say so, or calls it a fault")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := n.Propose(ctx, edit("other", 1)) // is queued, and never passed to raft
	wantCode(t, err, conf.CodeNoQuorum)
	locked.Store(false)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil || n.Blocked() != nil {
		t.Fatalf("still blocked: %v", err)
	}
	n.write(t, "other", 1, 1) // which would conflict, had the first one been taken
}

func TestStopWhileLocked(t *testing.T) {
	dir := t.TempDir()
	var locked atomic.Bool
	told := make(chan error, 1)
	n := fresh(t, dir, func(o *Options) {
		o.FSM = &machine{FSM: o.FSM, apply: func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
			if locked.Load() {
				return nil, nil, conf.Errorf(conf.CodeLocked, "another process has it")
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
				m = &machine{FSM: o.FSM, apply: func(next func() ([]command.Result, []*conf.Record, error)) ([]command.Result, []*conf.Record, error) {
					if broken.Load() {
						return apply(next)
					}
					return next()
				}}
				o.FSM = m
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
			// Entries that raft passes are not applied either.
			if out := n.fsm.ApplyBatch([]*raft.Log{{Index: 1 << 40, Data: encoded(t, edit("other", 1))}}); out[0] == nil || m.calls.Load() != calls {
				t.Fatalf("applied behind a fault: %v", out)
			}
			if _, err := n.fsm.Snapshot(); err == nil {
				t.Fatal("a snapshot behind a fault")
			}
			if n.IsLeader() || n.Barrier(t.Context()) == nil || n.Snapshot(t.Context()) == nil {
				t.Fatal("continues after a fault")
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
func newFSM(tb testing.TB) (*applier, *store.Store) {
	tb.Helper()
	st := openStore(tb, tb.TempDir())
	tb.Cleanup(func() { st.Close() })
	o := Options{Dir: "unused", NodeID: "n1", FSM: st}
	if err := o.setDefaults(); err != nil {
		tb.Fatal(err)
	}
	return newApplier(tb.Context(), &o, st, raftguard.NewFault()), st
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
	kind := encoded(t, edit("router", 1))
	kind[1] = 39
	for name, c := range map[string]struct {
		data []byte
		code conf.Code
	}{
		"empty":       {nil, conf.CodeCorrupt},
		"garbage":     {[]byte("\x01\x02garbage"), conf.CodeCorrupt},
		"newer build": {newer, conf.CodeUnsupported},
		"newer kind":  {kind, conf.CodeUnsupported},
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
			if c.code == conf.CodeUnsupported && !strings.Contains(conf.HintOf(f.fault.Err()), "upgrade this node") {
				t.Fatalf("%v has no way out", f.fault.Err())
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
	again.fsm = f.fsm
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
