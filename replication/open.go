package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/logspace"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/walstore"
)

// Open starts this node. A node without files starts a cluster of its own, unless
// Options.Join is set.
//
// Before raft starts, log, snapshot and FSM get one history: an FSM that is behind the
// newest snapshot is restored from it; an FSM with data but without a log gets a new log
// that continues from its applied index; an empty FSM is rebuilt from snapshot and log.
// conf.CodeCorrupt: the log cannot be used, set the directory aside and open again.
// conf.CodeLocked: another process has it open.
func Open(ctx context.Context, o Options) (_ *Node, err error) {
	defer func() {
		if c, ok := o.Transport.(raft.WithClose); ok && err != nil {
			_ = c.Close()
		}
	}()
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if o.Transport == nil {
		return nil, conf.Errorf(conf.CodeInternal, "no transport")
	}
	o.Advertise = string(o.Transport.LocalAddr())
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, raftguard.StorageError(err, "cannot create %s", o.Dir)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, raftguard.StorageError(err, "cannot set the mode of %s", o.Dir)
	}
	logs, snaps, err := openFiles(ctx, &o)
	if err != nil {
		return nil, err
	}
	n, err := run(&o, logs, snaps)
	if err != nil {
		_ = logs.Close()
	}
	return n, err
}

// openFiles opens log and snapshots, and reconciles them with the FSM.
func openFiles(ctx context.Context, o *Options) (*raftguard.ChecksumStore, *raftguard.SnapshotStore, error) {
	where := walstore.Options{Dir: o.Dir, LockTimeout: o.LockTimeout, SegmentSize: o.SegmentSize, Logger: o.Logger}
	if where.SegmentSize == 0 {
		where.SegmentSize = segmentSize(o.logLimit())
	}
	_, err := os.Stat(filepath.Join(o.Dir, walstore.FileName))
	created := errors.Is(err, os.ErrNotExist)
	file, err := walstore.Open(ctx, where)
	if err != nil {
		return nil, nil, err
	}
	logs := raftguard.NewChecksumStore(o.wrapLog(file))
	snaps, err := raftguard.OpenSnapshots(filepath.Join(o.Dir, "snapshots"), o.Logger)
	if err == nil {
		err = raftguard.Reconcile(ctx, raftguard.ReconcileOptions{
			NodeID: o.NodeID, Addr: o.Advertise, Join: o.Join, HadLog: o.HadLog, MinIndex: o.MinIndex,
			FSM: o.FSM, Log: o.Logger, OnRestored: o.OnRestored,
		}, logs, snaps)
	}
	if err != nil {
		_ = logs.Close()
		return nil, nil, err
	}
	kind := o.LogStore
	if kind == "" && created {
		kind = defaultLog
	}
	if kind == "" || kind == walstore.KindOf(file) {
		return logs, snaps, nil
	}
	// After it was reconciled: only a whole log is moved.
	if file, err = walstore.Move(ctx, where, file, kind); err != nil {
		return nil, nil, err
	}
	return raftguard.NewChecksumStore(o.wrapLog(file)), snaps, nil
}

// segmentSize is that of the segments of a log that is shortened at limit bytes: what is
// dropped is at most one segment late.
func segmentSize(limit int64) int { return int(min(max(limit/4, 1<<20), walstore.DefaultSegment)) }

// run starts raft behind the guards.
func run(o *Options, logs *raftguard.ChecksumStore, snaps *raftguard.SnapshotStore) (*Node, error) {
	trans, err := raftguard.NewTransport(o.Transport, o.Logger)
	if err != nil {
		return nil, err
	}
	id, fault := raft.ServerID(o.NodeID), raftguard.NewFault()
	notifier := raftguard.NewCommitNotifier(id, trans)
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{
		log: o.Logger, id: id, trans: trans, logs: logs, fault: fault, notifier: notifier,
		checkCommand: o.CheckCommand, lease: o.Lease,
		tasks:      tasks{stopping: make(chan struct{})},
		leadership: make(leadershipCh, 1), monitored: make(chan struct{}),
		cancel: cancel, stopped: make(chan struct{}),
		fsm: newApplier(ctx, o, o.FSM, fault),
	}
	n.fsm.onCommitted = notifier.Committed
	n.disk = &raftguard.DiskMonitor{
		Slow: o.SlowDisk, Hung: o.HungDisk, ID: id, Log: o.Logger, Fault: fault,
		CloseTransport: trans.Close, Go: n.tasks.start,
	}
	failStop := raftguard.NewFailStopStore(logs, fault, n.disk)
	counted := logspace.NewLog(failStop)
	// On a goroutine of its own: the store ends the goroutine that meets a fault.
	started := make(chan error, 1)
	go func() {
		err := error(conf.Errorf(conf.CodeInternal, "raft did not start"))
		defer func() {
			if p := recover(); p != nil {
				err = raftguard.Corrupt("raft cannot start from the log: %v", p)
			}
			if f := fault.Err(); f != nil {
				err = f
			}
			started <- err
		}()
		n.raft, err = raft.NewRaft(o.raftConfig(), n.fsm, counted, failStop, snaps, trans)
	}()
	if err := <-started; err != nil {
		cancel()
		if n.raft != nil {
			_ = n.raft.Shutdown().Error()
		}
		return nil, err
	}
	n.proposals.raft, n.proposals.tasks, n.disk.Raft = n.raft, &n.tasks, n.raft
	trans.Attach(n.raft)
	trans.GuardTerms(id, n.raft, fault)
	go trans.Serve(func() bool { return n.raft.State() == raft.Leader })
	notifier.Start(n.raft)
	go n.monitor()
	probe := &raftguard.LeaderProbe{
		Raft: n.raft, ID: id, Log: o.Logger, Fault: fault, Refused: o.refused, StartElection: n.startElection,
	}
	n.tasks.start(func() { probe.Run(n.tasks.stopping) })
	bound := logspace.Bound{Log: counted, Raft: n.raft, Limit: o.logLimit(), Newest: snaps.NewestSize, Logger: o.Logger}
	n.tasks.start(func() {
		_ = counted.Measure(n.tasks.stopping)
		bound.Run(n.tasks.stopping)
	})
	n.tasks.start(func() { raftguard.NewAwayMembers(o.Logger).Run(n.raft, n.tasks.stopping) })
	return n, nil
}
