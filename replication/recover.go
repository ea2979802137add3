package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Recover makes the member in o.Dir, which must not run, the only voter of its
// group: for a group that lost most of its voters for ever. The entries that it
// has and that were never acknowledged count from then on. scratch is an empty
// machine that takes the whole history; o.Machine is brought to it by the next Open.
//
// The others still believe in the old group. Whoever calls this must see to it
// that they cannot come back.
func Recover(ctx context.Context, o Options, scratch Machine) (err error) {
	o.Join = true // nothing is started anew here
	if err := o.setDefaults(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "raft.db")); err != nil {
		return corrupt("there is no log in %s", o.Dir)
	}
	inner, err := openBolt(ctx, filepath.Join(o.Dir, "raft.db"), o.LockTimeout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guard("close", inner.Close)) }()
	logs := &checkedStore{inner}
	snaps, err := openSnapshots(filepath.Join(o.Dir, "snapshots"), o.Logger)
	if err != nil {
		return err
	}
	if err := reconcile(ctx, &o, logs, snaps); err != nil {
		return err
	}
	machine := &recovering{fsm: &fsm{
		machine: scratch, fault: newFault(), log: o.Logger, ctx: ctx, stop: make(chan struct{}),
		onApplied: o.OnApplied, onDigest: o.OnDigest, onRestored: func() {}, onBlocked: func(error) {},
	}}
	defer machine.release()
	_, trans := raft.NewInmemTransport(raft.ServerAddress(o.Advertise))
	defer func() { err = errors.Join(err, trans.Close()) }()
	self := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(o.NodeID), Address: raft.ServerAddress(o.Advertise),
	}}}
	err = guard("recover", func() error { return raft.RecoverCluster(o.raftConfig(), machine, logs, logs, snaps, trans, self) })
	if f := machine.fault.Err(); f != nil {
		return f
	}
	if err != nil {
		return conf.Errorf(conf.CodeCorrupt, "the log cannot be made that of one member: %w", err).WithHint(repairHint)
	}
	return nil
}

// recovering releases the snapshot that raft.RecoverCluster forgets.
type recovering struct {
	*fsm
	taken raft.FSMSnapshot
}

func (r *recovering) Snapshot() (s raft.FSMSnapshot, err error) {
	s, err = r.fsm.Snapshot()
	r.taken = s
	return s, err
}

func (r *recovering) release() {
	if r.taken != nil {
		r.taken.Release()
	}
}
