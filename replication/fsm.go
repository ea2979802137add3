package replication

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// fsm is what raft applies the log to: a thin layer over the Machine that never
// lets an entry be skipped. All methods but Blocked run on raft's one goroutine
// for the state machine (or on Open's, before there is one).
type fsm struct {
	machine    Machine
	fault      *fault
	log        *slog.Logger
	ctx        context.Context // of the Member: ends calls into the machine when Stop runs out of time
	stop       chan struct{}   // closed when the Member stops: ends the wait for a locked machine
	onApplied  func(uint64, []*conf.Record)
	onDigest   func(*command.Digest)
	onRestored func()
	onBlocked  func(error)
	committed  func(index, term uint64) // the log is committed up to there

	blocked atomic.Pointer[error]
	seen    uint64 // index up to which raft has handed entries over in this run
	halted  error  // set when a batch was given up because of a stop
}

var errStopping = errors.New("the node is stopping")

// Apply is there for the interface: raft calls ApplyBatch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies the commands among logs in one call to the machine. The
// response is as long as logs, as raft demands: a command.Result or an error for
// a command, nil for a change of membership.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if err := f.apply(logs, out); err != nil {
		for i := range out {
			out[i] = err
		}
	}
	return out
}

func (f *fsm) apply(logs []*raft.Log, out []any) error {
	if err := f.fault.Err(); err != nil {
		return err
	}
	if f.halted != nil {
		return f.halted
	}
	last := logs[len(logs)-1]
	if f.committed != nil {
		f.committed(last.Index, last.Term)
	}
	applied, _ := f.machine.Applied()
	entries := make([]store.Entry, 0, len(logs))
	places := make([]int, 0, len(logs))
	for i, l := range logs {
		switch {
		case l.Type != raft.LogCommand:
		case l.Index <= applied:
			out[i] = command.Result{Index: l.Index, Duplicate: true}
		default:
			cmd, err := command.Decode(l.Data)
			if err != nil {
				return f.fail(undecodable(l, err))
			}
			entries = append(entries, store.Entry{Index: l.Index, Term: l.Term, Command: cmd})
			places = append(places, i)
		}
	}
	if len(entries) > 0 {
		results, recs, err := f.commit(entries)
		if err != nil {
			return err
		}
		for i, r := range results {
			out[places[i]] = r
		}
		f.onApplied(entries[len(entries)-1].Index, recs)
		for _, e := range entries {
			if d, ok := e.Command.(*command.Digest); ok {
				f.onDigest(d)
			}
		}
	}
	f.seen = last.Index
	return nil
}

func undecodable(l *raft.Log, err error) error {
	if errors.Is(err, command.ErrUnknownVersion) {
		return conf.Errorf(conf.CodeUnsupported, "log entry %d was written by a newer build: %w", l.Index, err).
			WithHint("upgrade this node: it stops applying changes until it understands them")
	}
	return conf.Errorf(conf.CodeCorrupt, "log entry %d does not decode: %w", l.Index, err)
}

// commit hands entries to the machine until it takes them or fails for good.
func (f *fsm) commit(entries []store.Entry) ([]command.Result, []*conf.Record, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		results, recs, err := f.try(entries)
		switch {
		case err == nil && len(results) != len(entries):
			return nil, nil, f.fail(conf.Errorf(conf.CodeInternal, "%d results for %d log entries", len(results), len(entries)))
		case err == nil:
			f.block(nil)
			return results, recs, nil
		case f.ctx.Err() != nil:
			return nil, nil, f.halt()
		case conf.CodeOf(err) != conf.CodeLocked:
			f.block(nil)
			return nil, nil, f.fail(err)
		}
		f.block(err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-f.stop:
			timer.Stop()
			return nil, nil, f.halt()
		}
	}
}

// try keeps a panic of the machine from ending the process; it is a fault like any other.
func (f *fsm) try(entries []store.Entry) (results []command.Result, recs []*conf.Record, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = conf.Errorf(conf.CodeInternal, "applying log entries %d to %d: %v", entries[0].Index, entries[len(entries)-1].Index, p)
		}
	}()
	return f.machine.Apply(f.ctx, entries)
}

func (f *fsm) fail(err error) error {
	f.fault.trip(err)
	return err
}

// halt gives up without a fault. Nothing may be applied behind the gap; the next
// start goes on from where the machine is.
func (f *fsm) halt() error {
	f.halted = errStopping
	f.block(nil)
	return errStopping
}

func (f *fsm) block(err error) {
	switch old := f.blocked.Load(); {
	case err != nil && old == nil:
		f.log.Warn("the database is locked by another process, changes wait", "error", err)
		f.blocked.Store(&err)
		f.onBlocked(err)
	case err == nil && old != nil:
		f.log.Info("the database is not locked any more")
		f.blocked.Store(nil)
		f.onBlocked(nil)
	}
}

// Blocked is the error that the machine is being retried for, or nil.
func (f *fsm) Blocked() error {
	if p := f.blocked.Load(); p != nil {
		return *p
	}
	return nil
}

// Snapshot pins the machine's state.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.fault.Err(); err != nil {
		return nil, err
	}
	// After a start raft hands over again what the machine has already. A snapshot
	// then would carry a lower index than its content has.
	if applied, _ := f.machine.Applied(); f.halted != nil || applied > f.seen {
		return nil, conf.Errorf(conf.CodeUnsupported, "no snapshot while the log is being read again")
	}
	s, err := f.machine.Snapshot(f.ctx)
	if err != nil {
		return nil, err
	}
	return &fsmSnapshot{s}, nil
}

// Restore replaces the machine's state by a snapshot that a leader sent.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.fault.Err(); err != nil {
		return err
	}
	if f.halted != nil {
		return f.halted
	}
	err := restore(f.ctx, f.machine, r)
	switch {
	case err == nil:
		f.seen, _ = f.machine.Applied()
		f.onRestored()
		return nil
	case f.ctx.Err() != nil:
		return f.halt()
	case conf.CodeOf(err) == conf.CodeLocked:
		return err // nothing was changed, and the leader sends it again
	default:
		return f.fail(err)
	}
}

type fsmSnapshot struct{ s *store.Snapshot }

func (p *fsmSnapshot) Persist(sink raft.SnapshotSink) error { return writeState(sink, p.s) }

func (p *fsmSnapshot) Release() { _ = p.s.Close() }

// stateHeader stands before the machine's own stream. Its index is that of the
// last command in it: the snapshot's may be higher, because entries of raft's own
// have indexes too.
type stateHeader struct{ Index, Term uint64 }

var stateMagic = []byte("HFSTATE1")

const stateHeaderSize = 8 + 8 + 8

func writeState(w io.Writer, s *store.Snapshot) error {
	head := append([]byte{}, stateMagic...)
	head = binary.BigEndian.AppendUint64(head, s.Index())
	head = binary.BigEndian.AppendUint64(head, s.Term())
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := s.WriteTo(w)
	return err
}

func readStateHeader(r io.Reader) (h stateHeader, err error) {
	var b [stateHeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || !bytes.Equal(b[:8], stateMagic) {
		return h, conf.Errorf(conf.CodeCorrupt, "the state of the snapshot is of no known form")
	}
	return stateHeader{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, nil
}

func restore(ctx context.Context, m Machine, r io.Reader) error {
	h, err := readStateHeader(r)
	if err != nil {
		return err
	}
	if err := m.Restore(ctx, r); err != nil {
		return err
	}
	if index, term := m.Applied(); index != h.Index || term != h.Term {
		return conf.Errorf(conf.CodeCorrupt, "the snapshot of index %d, term %d restored as %d, %d", h.Index, h.Term, index, term)
	}
	return nil
}
