package replication

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

	logFormat = 1 // of the log's file: sums in Extensions and behind stable values
)

// history is what the disk holds, before raft sees it: the machine, the newest
// snapshot, the log.
type history struct {
	opts  *Options
	log   *slog.Logger
	logs  *checkedStore
	snaps *snapshotStore

	applied, appliedTerm uint64 // of the machine
	term                 uint64
	snap                 *raft.SnapshotMeta // newest that verifies, or nil
	snapState            stateHeader        // of snap

	first, last, lastTerm uint64      // of the log, 0 when it is empty
	bad                   []uint64    // entries that are damaged
	badErr                error       // the first of them
	configs               []oldConfig // configuration entries, in order
}

type oldConfig struct {
	index uint64
	conf  raft.Configuration
}

const repairHint = "set the raft directory aside and open again: the node goes on from its store"

func corrupt(format string, args ...any) error {
	return conf.Errorf(conf.CodeCorrupt, format, args...).WithHint(repairHint)
}

// reconcile brings machine, snapshot and log to one history from which raft can
// go on: what is behind is brought forward, what is damaged but not needed is
// dropped. When something is missing that nothing here has, it fails with
// conf.CodeCorrupt.
func reconcile(ctx context.Context, o *Options, logs *checkedStore, snaps *snapshotStore) error {
	h := &history{opts: o, log: o.Logger, logs: logs, snaps: snaps}
	if err := h.checkFormat(); err != nil {
		return err
	}
	if err := h.readLog(); err != nil {
		return err
	}
	if err := h.catchUp(ctx); err != nil {
		return err
	}
	if h.last == 0 && h.snap == nil {
		return h.start(ctx)
	}
	if err := h.checkTerms(); err != nil {
		return err
	}
	if err := h.bridge(ctx); err != nil {
		return err
	}
	return h.checkMembership()
}

func (h *history) checkFormat() error {
	v, err := h.logs.GetUint64([]byte(formatKey))
	switch {
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
		if last, err := h.logs.LastIndex(); err != nil || last != 0 {
			return errors.Join(err, corrupt("the log's file does not say which format it has"))
		}
		return h.logs.SetUint64([]byte(formatKey), logFormat)
	case err != nil:
		return err
	case v != logFormat:
		return conf.Errorf(conf.CodeUnsupported, "the log has format %d, this build knows %d", v, logFormat).
			WithHint("start the build that wrote it")
	}
	return nil
}

// readLog reads and verifies every entry.
func (h *history) readLog() (err error) {
	if h.term, err = h.logs.GetUint64([]byte(termKey)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	for _, key := range []string{"LastVoteTerm", "LastVoteCand"} {
		if _, err := h.logs.Get([]byte(key)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return err
		}
	}
	if h.first, err = h.logs.FirstIndex(); err != nil {
		return err
	}
	if h.last, err = h.logs.LastIndex(); err != nil {
		return err
	}
	if h.first == 0 {
		return nil
	}
	for i := h.first; i <= h.last; i++ {
		var l raft.Log
		if err := h.logs.GetLog(i, &l); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) {
				return corrupt("the log misses entry %d of %d to %d", i, h.first, h.last)
			}
			h.bad = append(h.bad, i)
			if h.badErr == nil {
				h.badErr = err
			}
			if l.Type == raft.LogConfiguration || l.Index != i || (h.opts.Join && l.Type != raft.LogCommand) {
				return err // who is in the group may stand in it
			}
			continue
		}
		if l.Term < h.lastTerm {
			return corrupt("log entry %d has term %d behind term %d", i, l.Term, h.lastTerm)
		}
		h.lastTerm = l.Term
		if l.Type == raft.LogConfiguration {
			c, err := decodeConfiguration(l.Data)
			if err != nil {
				return corrupt("log entry %d: %v", i, err)
			}
			h.configs = append(h.configs, oldConfig{i, c})
		}
	}
	return nil
}

// decodeConfiguration is raft's, which panics.
func decodeConfiguration(data []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("membership does not decode: %v", p)
		}
	}()
	return raft.DecodeConfiguration(data), nil
}

// catchUp finds the newest snapshot that verifies, and restores it into a
// machine that is behind it: raft takes for granted that a snapshot which it has
// written was applied, and a crash may have come between.
func (h *history) catchUp(ctx context.Context) error {
	h.applied, h.appliedTerm = h.opts.Machine.Applied()
	for {
		metas, err := h.snaps.List()
		if err != nil {
			return err
		}
		if len(metas) == 0 {
			return nil
		}
		newest := metas[0]
		state, restored, err := h.load(ctx, newest.ID)
		if err == nil {
			h.snap, h.snapState = newest, state
			if restored {
				h.applied, h.appliedTerm = h.opts.Machine.Applied()
				h.log.Info("restored the store from a snapshot", "index", newest.Index, "term", newest.Term)
				h.opts.OnRestored()
			}
			return nil
		}
		if conf.CodeOf(err) != conf.CodeCorrupt {
			return err
		}
		h.snaps.condemn(newest.ID, err)
	}
}

func (h *history) load(ctx context.Context, id string) (stateHeader, bool, error) {
	_, r, err := h.snaps.Open(id)
	if err != nil {
		return stateHeader{}, false, err
	}
	defer r.Close()
	state, err := readStateHeader(r)
	if err != nil || h.applied >= state.Index {
		return state, false, err
	}
	_, r2, err := h.snaps.Open(id)
	if err != nil {
		return state, false, err
	}
	defer r2.Close()
	return state, true, restore(ctx, h.opts.Machine, r2)
}

// start begins a log where there is none.
func (h *history) start(ctx context.Context) error {
	self := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(h.opts.NodeID), Address: raft.ServerAddress(h.opts.Advertise),
	}}}
	switch {
	case h.opts.Join && (h.opts.Begun || h.opts.Seen > 0):
		return corrupt("this node had a log, and it is empty now")
	case h.opts.Join && h.applied > 0:
		return corrupt("this node is one of several and has data, but no log that belongs to it")
	case h.opts.Join:
		return nil
	case h.applied > 0:
		h.log.Warn("the log is gone: a new one goes on from the store", "index", h.applied, "term", h.appliedTerm)
		if h.term < h.appliedTerm {
			if err := h.logs.SetUint64([]byte(termKey), h.appliedTerm); err != nil {
				return err
			}
		}
		return h.seal(ctx, self, h.applied)
	case h.term > 1:
		return corrupt("term %d, but neither a log nor a snapshot", h.term)
	}
	// The term first: a crash in between leaves what this function starts from.
	if err := h.logs.SetUint64([]byte(termKey), 1); err != nil {
		return err
	}
	return h.logs.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(self)})
}

// seal writes a snapshot of the machine as it is, for raft to start from.
func (h *history) seal(ctx context.Context, c raft.Configuration, confIndex uint64) (err error) {
	s, err := h.opts.Machine.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Index() != h.applied || s.Term() != h.appliedTerm {
		return conf.Errorf(conf.CodeInternal, "the store moved from index %d to %d while it was being opened", h.applied, s.Index())
	}
	sink, err := h.snaps.Create(1, h.applied, h.appliedTerm, c, confIndex, nil)
	if err != nil {
		return err
	}
	if err := writeState(sink, s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	metas, err := h.snaps.List()
	if err != nil {
		return err
	}
	if len(metas) == 0 || metas[0].ID != sink.ID() {
		return corrupt("a snapshot of index %d is not the newest", h.applied)
	}
	h.snap, h.snapState = metas[0], stateHeader{h.applied, h.appliedTerm}
	return nil
}

// base is the index from which raft will read the log on.
func (h *history) base() uint64 {
	if h.snap == nil {
		return 0
	}
	return h.snap.Index
}

func (h *history) checkTerms() error {
	highest := max(h.lastTerm, h.appliedTerm)
	if h.snap != nil {
		highest = max(highest, h.snap.Term)
	}
	if end := max(h.last, h.base()); h.opts.Join && end < h.opts.Seen {
		return corrupt("the log ends at %d, but this node has served index %d: the end of the log is lost", end, h.opts.Seen)
	}
	if h.term < highest {
		return corrupt("the log's file says term %d, but term %d has been", h.term, highest)
	}
	if end := max(h.last, h.base()); h.applied > end {
		return corrupt("the log ends at %d, but the store has applied %d: the end of the log is lost", end, h.applied)
	}
	if h.applied < h.first || h.applied > h.last {
		return nil
	}
	var l raft.Log
	if err := h.logs.GetLog(h.applied, &l); err != nil {
		return nil // a damaged entry that the store has: bridge decides
	}
	if l.Term != h.appliedTerm || l.Type != raft.LogCommand {
		return corrupt("the store has applied index %d in term %d, the log has it in term %d (%v): they are of different histories",
			h.applied, h.appliedTerm, l.Term, l.Type)
	}
	return nil
}

// bridge sees to it that raft finds each entry after its base. Entries that the
// store has applied may be missing or damaged: a snapshot of the store stands in.
func (h *history) bridge(ctx context.Context) error {
	if h.last > 0 && h.last <= h.base() && h.snap != nil {
		// All of it is in the snapshot, and what comes next may leave a hole.
		if h.last < h.base() || len(h.bad) > 0 {
			return h.logs.DeleteRange(h.first, h.last)
		}
	}
	if h.last == 0 {
		return nil
	}
	for _, i := range h.bad {
		if i > h.applied {
			return h.badErr
		}
	}
	hole := h.first > h.base()+1
	for _, i := range h.bad {
		hole = hole || i > h.base()
	}
	if hole {
		if h.first > h.applied+1 {
			return corrupt("the log starts at %d, but the store ends at %d and no snapshot reaches further", h.first, h.applied)
		}
		c, at, ok := h.configAt(h.applied)
		if !ok {
			return corrupt("nothing that is left says who is in the cluster")
		}
		h.log.Warn("a snapshot of the store replaces what is missing of the log", "index", h.applied, "damaged", len(h.bad))
		if err := h.seal(ctx, c, at); err != nil {
			return err
		}
	}
	if n := len(h.bad); n > 0 {
		return h.logs.DeleteRange(h.first, h.bad[n-1])
	}
	return nil
}

// configAt is the newest membership at index or before it.
func (h *history) configAt(index uint64) (c raft.Configuration, at uint64, ok bool) {
	if h.snap != nil && h.snap.Index <= index {
		c, at, ok = h.snap.Configuration, h.snap.ConfigurationIndex, true
	}
	for _, e := range h.configs {
		if e.index <= index && e.index >= at {
			c, at, ok = e.conf, e.index, true
		}
	}
	return c, at, ok
}

// checkMembership refuses to wait for ever for an election that this node is not in.
func (h *history) checkMembership() error {
	c, _, ok := h.configAt(h.last)
	if s := h.base(); s > h.last {
		c, _, ok = h.configAt(s)
	}
	if !ok || len(c.Servers) != 1 || c.Servers[0].ID == raft.ServerID(h.opts.NodeID) {
		return nil
	}
	return conf.Errorf(conf.CodeInvalid, "the data belongs to node %q, not to %q", c.Servers[0].ID, h.opts.NodeID).
		WithHint("set CONFIG_NODE_ID to %s, or use another data directory", c.Servers[0].ID)
}
