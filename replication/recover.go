package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// Recover makes the node in o.Dir, which must not run, the only voter of its cluster,
// after a permanent loss of the quorum. Entries that it has and that were never
// acknowledged become part of the history. scratch is an empty FSM that applies the
// whole history. The next Open brings o.FSM to it.
//
// The other members still have the old configuration. The caller must ensure that they
// cannot return.
func Recover(ctx context.Context, o Options, scratch FSM) (err error) {
	o.Join = true // starts no cluster
	if err := o.setDefaults(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "raft.db")); err != nil {
		return raftguard.Corrupt("there is no log in %s", o.Dir)
	}
	logs, snaps, err := openFiles(ctx, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	o.OnRestored, o.OnBlocked = func() {}, func(error) {}
	fsm := &recoveryFSM{applier: newApplier(ctx, &o, scratch, raftguard.NewFault())}
	defer fsm.release()
	_, trans := raft.NewInmemTransport(raft.ServerAddress(o.Advertise))
	defer func() { err = errors.Join(err, trans.Close()) }()
	self := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(o.NodeID), Address: raft.ServerAddress(o.Advertise),
	}}}
	err = raftguard.RecoverPanic("recover", func() error {
		return raft.RecoverCluster(o.raftConfig(), fsm, logs, logs, snaps, trans, self)
	})
	if f := fsm.fault.Err(); f != nil {
		return f
	}
	if err != nil {
		return raftguard.Corrupt("cannot make this node the only voter: %w", err)
	}
	return nil
}

// recoveryFSM releases the snapshot that raft.RecoverCluster does not release.
type recoveryFSM struct {
	*applier
	snapshot raft.FSMSnapshot
}

func (r *recoveryFSM) Snapshot() (s raft.FSMSnapshot, err error) {
	s, err = r.applier.Snapshot()
	r.snapshot = s
	return s, err
}

func (r *recoveryFSM) release() {
	if r.snapshot != nil {
		r.snapshot.Release()
	}
}
