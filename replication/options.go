package replication

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// Machine is the state machine that the log drives; store.Store is one.
//
// Apply stores a batch completely or not at all, skips entries that it has
// applied before, and returns one result per entry and the services that
// changed. An error with conf.CodeLocked is retried, any other one is final.
// Restore replaces everything, or nothing when it fails.
type Machine interface {
	Apply(ctx context.Context, entries []store.Entry) ([]command.Result, []*conf.Record, error)
	Applied() (index, term uint64)
	Snapshot(ctx context.Context) (*store.Snapshot, error)
	Restore(ctx context.Context, r io.Reader) error
}

// Options set a Member up. Dir, NodeID and Machine are required.
type Options struct {
	Dir     string // directory of log and snapshots, made when it is missing
	NodeID  string // this node's name in the group, the same at every start
	Addr    string // address to listen on; port 0 picks one
	Machine Machine
	Logger  *slog.Logger

	// Advertise is the address under which others reach this node, when that is
	// not the one it listens on. Listening on all interfaces without it
	// advertises the loopback address.
	Advertise string

	// Join says that this node waits for the leader of an existing group to add
	// it, instead of starting a group of one when it has no state.
	Join bool

	// Begun says that this node had a log before, and Seen is the highest index
	// that it has served. With Join a log without entries, or one that ends below,
	// has lost what the node has promised to others: it is damaged.
	Begun bool
	Seen  uint64

	// Gate may refuse a command before it is proposed, because a member could not
	// apply it. It must not block.
	Gate func(command.Command) error

	OnApplied  func(index uint64, recs []*conf.Record) // a batch is durable in the machine
	OnDigest   func(*command.Digest)                   // one was applied; the log's goroutine waits
	OnRestored func()                                  // a snapshot replaced the machine's state
	OnBlocked  func(err error)                         // the machine is locked and retried; nil: not any more

	Heartbeat, Election, Lease, Commit time.Duration // default 1 s, 1 s, 5/6 of Heartbeat, 200 ms
	SnapshotInterval                   time.Duration // how often to look whether to take one; default 30 s
	SnapshotThreshold, TrailingLogs    uint64        // default 8192, 2048
	SlowDisk, HungDisk                 time.Duration // an append that takes longer ends leading, or this member; default 2 s, 10 s
	LockTimeout                        time.Duration // wait for another process that has Dir open; default 1 s

	wrapLog func(bolt) bolt // stands between the log and its file; tests slow it down

	// Transport replaces the TCP transport on Addr. The Member owns it: it is
	// closed with the Member, and when Open fails.
	Transport raft.Transport

	refused func(addr string) bool // whether nobody listens there; tests replace it
}

func (o *Options) setDefaults() error {
	switch {
	case o.Dir == "":
		return conf.Errorf(conf.CodeUsage, "no directory for the log")
	case o.NodeID == "":
		return conf.Errorf(conf.CodeUsage, "no node id").WithHint("set CONFIG_NODE_ID to a name that no other node has")
	case o.Machine == nil:
		return conf.Errorf(conf.CodeInternal, "no state machine")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	// Raft's own. A third of them replaced a dead leader sooner, but live ones, too,
	// whenever the processors were saturated; vigil is for the dead ones. The lease
	// may be long: it ends before a follower can stand, and no read relies on it.
	// Nudges tell commits at once, so that Commit is only for the nudge that was
	// lost; each member costs the leader a message in that time even when nothing
	// happens.
	def(&o.Heartbeat, time.Second)
	def(&o.Election, o.Heartbeat)
	def(&o.Lease, o.Heartbeat*5/6)
	def(&o.Commit, 200*time.Millisecond)
	def(&o.SnapshotInterval, 30*time.Second)
	def(&o.LockTimeout, time.Second)
	def(&o.SlowDisk, 2*time.Second)
	def(&o.HungDisk, 10*time.Second)
	if o.refused == nil {
		o.refused = connectionRefused
	}
	if o.SnapshotThreshold == 0 {
		o.SnapshotThreshold = 8192
	}
	if o.TrailingLogs == 0 {
		o.TrailingLogs = 2048
	}
	if o.Gate == nil {
		o.Gate = func(command.Command) error { return nil }
	}
	if o.OnApplied == nil {
		o.OnApplied = func(uint64, []*conf.Record) {}
	}
	if o.OnDigest == nil {
		o.OnDigest = func(*command.Digest) {}
	}
	if o.OnRestored == nil {
		o.OnRestored = func() {}
	}
	if o.OnBlocked == nil {
		o.OnBlocked = func(error) {}
	}
	return nil
}

func (o *Options) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(o.NodeID)
	c.HeartbeatTimeout = o.Heartbeat
	c.ElectionTimeout = o.Election
	c.LeaderLeaseTimeout = o.Lease
	c.CommitTimeout = o.Commit
	c.BatchApplyCh = true // a group of proposals waits there as a whole; see groups
	c.SnapshotInterval = o.SnapshotInterval
	c.SnapshotThreshold = o.SnapshotThreshold
	c.TrailingLogs = o.TrailingLogs
	// Open decides by the machine's own applied index whether to restore: raft
	// would put an old snapshot over a newer store.
	c.NoSnapshotRestoreOnStart = true
	c.Logger = newHCLog(o.Logger)
	return c
}
