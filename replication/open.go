package replication

import (
	"context"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const logCacheSize = 512

// Open starts this node's member of the group. A node without any state starts
// a group of its own, unless Options.Join says to wait.
//
// Before raft runs, log, snapshot and machine are brought to one history: a
// machine behind the newest snapshot is restored from it; a machine with data
// but without a log gets a new log that goes on from its applied index; a
// machine that is empty is rebuilt from snapshot and log. conf.CodeCorrupt means
// that the log cannot be used: Quarantine the directory and open again.
// conf.CodeLocked means that another process has it open.
func Open(ctx context.Context, o Options) (_ *Member, err error) {
	trans := o.Transport
	defer func() {
		if err != nil && trans != nil {
			_ = slowHeartbeats{trans}.Close()
		}
	}()
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, storageError(err, "cannot make %s", o.Dir)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, storageError(err, "cannot make %s private", o.Dir)
	}
	inner, err := openBolt(ctx, filepath.Join(o.Dir, "raft.db"), o.LockTimeout)
	if err != nil {
		return nil, err
	}
	logs := &checkedStore{inner}
	if o.wrapLog != nil {
		logs.inner = o.wrapLog(inner)
	}
	defer func() {
		if err != nil {
			_ = guard("close", inner.Close)
		}
	}()
	snaps, err := openSnapshots(filepath.Join(o.Dir, "snapshots"), o.Logger)
	if err != nil {
		return nil, err
	}
	if trans == nil {
		if trans, err = newTCPTransport(&o); err != nil {
			return nil, err
		}
	}
	guarded, err := guardTransport(trans)
	if err != nil {
		return nil, err
	}
	o.Advertise = string(trans.LocalAddr())
	if err := reconcile(ctx, &o, logs, snaps); err != nil {
		return nil, err
	}
	return run(&o, logs, snaps, guarded)
}

// run starts raft.
func run(o *Options, logs *checkedStore, snaps *snapshotStore, trans slowHeartbeats) (*Member, error) {
	fault := newFault()
	ctx, cancel := context.WithCancel(context.Background())
	nudges := newNudger(raft.ServerID(o.NodeID), trans)
	m := &Member{
		log: o.Logger, id: raft.ServerID(o.NodeID), addr: trans.LocalAddr(), trans: trans, allow: o.Gate, logs: logs, fault: fault, lease: o.Lease, slow: o.SlowDisk, hung: o.HungDisk,
		cancel: cancel, stopping: make(chan struct{}), stopped: make(chan struct{}),
		lead: make(chan bool, 1), watched: make(chan struct{}), nudges: nudges,
		fsm: &fsm{
			machine: o.Machine, fault: fault, log: o.Logger, ctx: ctx, stop: make(chan struct{}),
			onApplied: o.OnApplied, onDigest: o.OnDigest, onRestored: o.OnRestored, onBlocked: o.OnBlocked,
			committed: nudges.committed,
		},
	}
	m.requests = newOrderly(trans, o.Logger)
	halting := &haltingStore{checkedStore: logs, fault: fault, pace: &m.pace}
	cache, err := raft.NewLogCache(logCacheSize, halting)
	if err != nil {
		cancel()
		return nil, err
	}
	// On a goroutine of its own: a store that halts ends the goroutine that calls it.
	started := make(chan error, 1)
	go func() {
		err := error(conf.Errorf(conf.CodeInternal, "raft did not start"))
		defer func() {
			if p := recover(); p != nil {
				err = corrupt("raft cannot start from the log: %v", p)
			}
			if f := fault.Err(); f != nil {
				err = f
			}
			started <- err
		}()
		m.raft, err = raft.NewRaft(o.raftConfig(), m.fsm, cache, halting, snaps, pipelines{m.requests})
	}()
	if err := <-started; err != nil {
		cancel()
		if m.raft != nil {
			_ = m.raft.Shutdown().Error()
		}
		return nil, err
	}
	go m.requests.run(func() bool { return m.raft.State() == raft.Leader })
	nudges.follow(m.raft)
	go m.watch()
	m.spawn(func() { m.vigil(o.refused) })
	return m, nil
}
