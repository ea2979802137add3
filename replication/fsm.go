package replication

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/store"
)

// applier is the raft.BatchingFSM over an FSM. It never skips an entry. Its methods run
// on raft's one goroutine for the FSM, or before raft starts.
type applier struct {
	fsm   FSM
	fault *raftguard.Fault
	log   *slog.Logger
	ctx   context.Context //nolint:containedctx // of the Node: ends calls of the FSM when Stop runs out of time
	stop  chan struct{}   // closed when the Node stops: ends the wait for a locked FSM

	onApplied   func(uint64, []*conf.Record)
	onDigest    func(*command.Digest)
	onRestored  func()
	onBlocked   func(error)
	onCommitted func(index, term uint64) // the log is committed up to there

	blocked atomic.Pointer[error] // why the FSM is retried, nil when it is not
	seen    uint64                // last index that raft has passed since it started
	halted  error                 // set when a batch was abandoned because of a stop
}

func newApplier(ctx context.Context, o *Options, fsm FSM, fault *raftguard.Fault) *applier {
	return &applier{
		fsm: fsm, fault: fault, log: o.Logger, ctx: ctx, stop: make(chan struct{}),
		onApplied: o.OnApplied, onDigest: o.OnDigest, onRestored: o.OnRestored, onBlocked: o.OnBlocked,
		onCommitted: func(uint64, uint64) {},
	}
}

// Apply implements raft.FSM. Raft calls ApplyBatch.
func (f *applier) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies the commands of logs in one call of the FSM. The response is as
// long as logs, or raft panics: a command.Result or an error for a command, nil for a
// change of membership.
func (f *applier) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if err := f.apply(logs, out); err != nil {
		for i := range out {
			out[i] = err
		}
	}
	return out
}

func (f *applier) apply(logs []*raft.Log, out []any) error {
	if err := f.fault.Err(); err != nil {
		return err
	}
	if f.halted != nil {
		return f.halted
	}
	last := logs[len(logs)-1]
	f.onCommitted(last.Index, last.Term)
	applied, _ := f.fsm.Applied()
	entries := make([]store.Entry, 0, len(logs))
	positions := make([]int, 0, len(logs))
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
			positions = append(positions, i)
		}
	}
	if len(entries) > 0 {
		results, recs, err := f.commit(entries)
		if err != nil {
			return err
		}
		for i, r := range results {
			out[positions[i]] = r
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

// commit applies entries. It retries while the FSM is locked.
func (f *applier) commit(entries []store.Entry) ([]command.Result, []*conf.Record, error) {
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

// try returns a panic of the FSM as an error: it must not end the process.
func (f *applier) try(entries []store.Entry) (results []command.Result, recs []*conf.Record, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = conf.Errorf(conf.CodeInternal, "applying log entries %d to %d: %v", entries[0].Index, entries[len(entries)-1].Index, p)
		}
	}()
	return f.fsm.Apply(f.ctx, entries)
}

func (f *applier) fail(err error) error {
	f.fault.Trip(err)
	return err
}

// halt stops applying without a fault: no entry after the abandoned batch may be
// applied. The next start continues from the applied index.
func (f *applier) halt() error {
	f.halted = errStopping
	f.block(nil)
	return errStopping
}

func (f *applier) block(err error) {
	switch old := f.blocked.Load(); {
	case err != nil && old == nil:
		f.log.Warn("database locked by another process, writes wait", "err", err)
		f.blocked.Store(&err)
		f.onBlocked(err)
	case err == nil && old != nil:
		f.log.Info("database no longer locked")
		f.blocked.Store(nil)
		f.onBlocked(nil)
	}
}

// Snapshot implements raft.FSM. The state is fixed when it returns.
func (f *applier) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.fault.Err(); err != nil {
		return nil, err
	}
	// After a start raft passes again what the FSM has applied. A snapshot then would
	// have a lower index than its state.
	if applied, _ := f.fsm.Applied(); f.halted != nil || applied > f.seen {
		return nil, conf.Errorf(conf.CodeUnsupported, "no snapshot while the log is read again")
	}
	s, err := f.fsm.Snapshot(f.ctx)
	if err != nil {
		return nil, err
	}
	return &fsmSnapshot{s}, nil
}

// Restore implements raft.FSM, with a snapshot of the leader.
func (f *applier) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.fault.Err(); err != nil {
		return err
	}
	if f.halted != nil {
		return f.halted
	}
	err := raftguard.RestoreState(f.ctx, f.fsm, r)
	switch {
	case err == nil:
		f.seen, _ = f.fsm.Applied()
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

func (p *fsmSnapshot) Persist(sink raft.SnapshotSink) error { return raftguard.WriteState(sink, p.s) }

func (p *fsmSnapshot) Release() { _ = p.s.Close() }
