// Guard: store, snapshot and log have one history before raft starts.
//
// Upstream: rqlite#2747 and rqlite#2759, on hashicorp/raft. Raft assumes that a
// snapshot on the disk is also in the state machine, and a crash may come between the
// two. Without NoSnapshotRestoreOnStart it would replace a newer store by an old
// snapshot.
//
// Tests: TestSnapshotBeforeTheStore and reconcile_test.go (replication). Known-bad
// build: the former also starts raft without the guard.

package raftguard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Keys of raft's stable values, and ours.
const (
	termKey   = "CurrentTerm"
	formatKey = "holdfast.format"

	logFormat         = 1 // of the log file: checksums in Extensions and after stable values
	logFormatSegments = 2 // the same, and the entries are in segment files

	// SegmentsKey is the stable value that says which segment files have the entries; see
	// package walstore.
	SegmentsKey = "holdfast.segments"
)

// ReconcileOptions describe the node whose files are reconciled.
type ReconcileOptions struct {
	NodeID, Addr string
	Join         bool   // the node belongs to an existing cluster
	HadLog       bool   // the node had a log before
	MinIndex     uint64 // the highest index that the node has served
	FSM          StateMachine
	Log          *slog.Logger
	OnRestored   func() // called after a snapshot replaced the state of FSM
}

// diskState is what the disk holds before raft starts: store, newest snapshot, log.
type diskState struct {
	opts  ReconcileOptions
	logs  *ChecksumStore
	snaps *SnapshotStore

	applied, appliedTerm uint64 // of the store
	term                 uint64
	snap                 *raft.SnapshotMeta // newest that verifies, or nil

	first, last, lastTerm uint64         // of the log, 0 when it is empty
	damagedEntries        []uint64       // in order
	damage                error          // of the first of them
	configs               []configChange // configuration entries, in order
}

type configChange struct {
	index uint64
	conf  raft.Configuration
}

// Reconcile restores a store that is behind the newest snapshot, discards damaged files
// that are not needed, and creates what raft needs to start. conf.CodeCorrupt:
// something is missing that no file has.
func Reconcile(ctx context.Context, o ReconcileOptions, logs *ChecksumStore, snaps *SnapshotStore) error {
	d := &diskState{opts: o, logs: logs, snaps: snaps}
	if err := d.checkFormat(); err != nil {
		return err
	}
	if err := d.readLog(); err != nil {
		return err
	}
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	if d.last == 0 && d.snap == nil {
		return d.initLog(ctx)
	}
	if err := d.checkTerms(); err != nil {
		return err
	}
	if err := d.coverGaps(ctx); err != nil {
		return err
	}
	return d.checkMembership()
}

func (d *diskState) checkFormat() error {
	v, err := d.logs.GetUint64([]byte(formatKey))
	switch {
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
		if last, err := d.logs.LastIndex(); err != nil || last != 0 {
			return errors.Join(err, Corrupt("the log file has no format number"))
		}
		return d.logs.SetUint64([]byte(formatKey), logFormat)
	case err != nil:
		return err
	case v != logFormat && v != logFormatSegments:
		return conf.Errorf(conf.CodeUnsupported, "the log has format %d, this build supports %d", v, logFormatSegments).
			WithHint("start the build that wrote it")
	}
	return nil
}

// readLog reads and verifies every entry.
func (d *diskState) readLog() (err error) {
	if d.term, err = d.logs.GetUint64([]byte(termKey)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	for _, key := range []string{"LastVoteTerm", "LastVoteCand"} {
		if _, err := d.logs.Get([]byte(key)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return err
		}
	}
	if d.first, err = d.logs.FirstIndex(); err != nil {
		return err
	}
	if d.last, err = d.logs.LastIndex(); err != nil {
		return err
	}
	if d.first == 0 {
		return nil
	}
	for i := d.first; i <= d.last; i++ {
		var l raft.Log
		if err := d.logs.GetLog(i, &l); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) {
				return Corrupt("log entry %d of %d to %d is missing", i, d.first, d.last)
			}
			d.damagedEntries = append(d.damagedEntries, i)
			if d.damage == nil {
				d.damage = err
			}
			if l.Type == raft.LogConfiguration || l.Index != i || (d.opts.Join && l.Type != raft.LogCommand) {
				return err // it may be a change of the membership
			}
			continue
		}
		if l.Term < d.lastTerm {
			return Corrupt("log entry %d has term %d after term %d", i, l.Term, d.lastTerm)
		}
		d.lastTerm = l.Term
		if l.Type == raft.LogConfiguration {
			c, err := decodeConfiguration(l.Data)
			if err != nil {
				return Corrupt("log entry %d: %v", i, err)
			}
			d.configs = append(d.configs, configChange{i, c})
		}
	}
	return nil
}

// decodeConfiguration returns an error where raft's function panics.
func decodeConfiguration(data []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the configuration does not decode: %v", p)
		}
	}()
	return raft.DecodeConfiguration(data), nil
}

// catchUp finds the newest snapshot that verifies, and restores it into a store that is
// behind it.
func (d *diskState) catchUp(ctx context.Context) error {
	d.applied, d.appliedTerm = d.opts.FSM.Applied()
	for {
		metas, err := d.snaps.List()
		if err != nil {
			return err
		}
		if len(metas) == 0 {
			return nil
		}
		newest := metas[0]
		restored, err := d.load(ctx, newest.ID)
		if err == nil {
			d.snap = newest
			if restored {
				d.applied, d.appliedTerm = d.opts.FSM.Applied()
				d.opts.Log.Info("restored the store from a snapshot", "index", newest.Index, "term", newest.Term)
				d.opts.OnRestored()
			}
			return nil
		}
		if conf.CodeOf(err) != conf.CodeCorrupt {
			return err
		}
		d.snaps.markDamaged(newest.ID, err)
	}
}

// load reads the header of snapshot id, and restores a store that is behind it.
func (d *diskState) load(ctx context.Context, id string) (restored bool, err error) {
	_, r, err := d.snaps.Open(id)
	if err != nil {
		return false, err
	}
	defer r.Close()
	header, err := readStateHeader(r)
	if err != nil || d.applied >= header.Index {
		return false, err
	}
	return true, restoreState(ctx, d.opts.FSM, header, r)
}

// initLog creates the log of a node that has none.
func (d *diskState) initLog(ctx context.Context) error {
	self := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(d.opts.NodeID), Address: raft.ServerAddress(d.opts.Addr),
	}}}
	switch {
	case d.opts.Join && (d.opts.HadLog || d.opts.MinIndex > 0):
		return Corrupt("this node had a log, and it is empty now")
	case d.opts.Join && d.applied > 0:
		return Corrupt("this member of a cluster has data, but no log that belongs to it")
	case d.opts.Join:
		return nil
	case d.applied > 0:
		d.opts.Log.Warn("log missing, creating one from the store", "index", d.applied, "term", d.appliedTerm)
		if d.term < d.appliedTerm {
			if err := d.logs.SetUint64([]byte(termKey), d.appliedTerm); err != nil {
				return err
			}
		}
		return d.writeSnapshot(ctx, self, d.applied)
	case d.term > 1:
		return Corrupt("term %d, but neither a log nor a snapshot", d.term)
	}
	// The term first: after a crash in between this function can run again.
	if err := d.logs.SetUint64([]byte(termKey), 1); err != nil {
		return err
	}
	return d.logs.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(self)})
}

// writeSnapshot writes a snapshot of the store, from which raft can start.
func (d *diskState) writeSnapshot(ctx context.Context, c raft.Configuration, confIndex uint64) (err error) {
	s, err := d.opts.FSM.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Index() != d.applied || s.Term() != d.appliedTerm {
		return conf.Errorf(conf.CodeInternal, "the store moved from index %d to %d while it was opened", d.applied, s.Index())
	}
	sink, err := d.snaps.Create(1, d.applied, d.appliedTerm, c, confIndex, nil)
	if err != nil {
		return err
	}
	if err := WriteState(sink, s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	metas, err := d.snaps.List()
	if err != nil {
		return err
	}
	if len(metas) == 0 || metas[0].ID != sink.ID() {
		return Corrupt("a snapshot of index %d is not the newest", d.applied)
	}
	d.snap = metas[0]
	return nil
}

// base returns the index after which raft will read the log.
func (d *diskState) base() uint64 {
	if d.snap == nil {
		return 0
	}
	return d.snap.Index
}

func (d *diskState) checkTerms() error {
	highest := max(d.lastTerm, d.appliedTerm)
	if d.snap != nil {
		highest = max(highest, d.snap.Term)
	}
	end := max(d.last, d.base())
	switch {
	case d.opts.Join && end < d.opts.MinIndex:
		return Corrupt("the log ends at %d, but this node has served index %d: the end of the log is lost", end, d.opts.MinIndex)
	case d.term < highest:
		return Corrupt("the log file has term %d, but an entry or snapshot has term %d", d.term, highest)
	case d.applied > end:
		return Corrupt("the log ends at %d, but the store has applied %d: the end of the log is lost", end, d.applied)
	case d.applied < d.first || d.applied > d.last:
		return nil
	}
	var l raft.Log
	if err := d.logs.GetLog(d.applied, &l); err != nil {
		return nil // a damaged entry that the store has: coverGaps handles it
	}
	if l.Term != d.appliedTerm || l.Type != raft.LogCommand {
		return Corrupt("the store has applied index %d in term %d, the log has it in term %d (%v): they have different histories",
			d.applied, d.appliedTerm, l.Term, l.Type)
	}
	return nil
}

// coverGaps ensures that raft finds each entry after its base. A snapshot of the store
// replaces missing or damaged entries that the store has applied.
func (d *diskState) coverGaps(ctx context.Context) error {
	if d.last > 0 && d.last <= d.base() && d.snap != nil {
		// All of it is in the snapshot, and the next entry may leave a gap.
		if d.last < d.base() || len(d.damagedEntries) > 0 {
			return d.logs.DeleteRange(d.first, d.last)
		}
	}
	if d.last == 0 {
		return nil
	}
	gap := d.first > d.base()+1
	for _, i := range d.damagedEntries {
		if i > d.applied {
			return d.damage
		}
		gap = gap || i > d.base()
	}
	if gap {
		if d.first > d.applied+1 {
			return Corrupt("the log starts at %d, but the store ends at %d and no snapshot reaches further", d.first, d.applied)
		}
		c, at, ok := d.configAt(d.applied)
		if !ok {
			return Corrupt("neither the log nor a snapshot has the members of the cluster")
		}
		d.opts.Log.Warn("replacing a part of the log by a snapshot of the store", "index", d.applied, "damaged", len(d.damagedEntries))
		if err := d.writeSnapshot(ctx, c, at); err != nil {
			return err
		}
	}
	if n := len(d.damagedEntries); n > 0 {
		return d.logs.DeleteRange(d.first, d.damagedEntries[n-1])
	}
	return nil
}

// configAt returns the configuration that is valid at index.
func (d *diskState) configAt(index uint64) (c raft.Configuration, at uint64, ok bool) {
	if d.snap != nil && d.snap.Index <= index {
		c, at, ok = d.snap.Configuration, d.snap.ConfigurationIndex, true
	}
	for _, e := range d.configs {
		if e.index <= index && e.index >= at {
			c, at, ok = e.conf, e.index, true
		}
	}
	return c, at, ok
}

// checkMembership rejects files of a single node with another id: this node would
// never be elected.
func (d *diskState) checkMembership() error {
	c, _, ok := d.configAt(max(d.last, d.base()))
	if !ok || len(c.Servers) != 1 || c.Servers[0].ID == raft.ServerID(d.opts.NodeID) {
		return nil
	}
	return conf.Errorf(conf.CodeInvalid, "the data belongs to node %q, not to %q", c.Servers[0].ID, d.opts.NodeID).
		WithHint("set CONFIG_NODE_ID to %s, or use another data directory", c.Servers[0].ID)
}
