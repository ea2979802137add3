package replication

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/logspace"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/replication/walstore"
)

// defaultLog is where the log of a new directory has its entries.
const defaultLog = walstore.WAL

// FSM is the state machine that the log drives; store.Store is one.
//
// Apply stores a batch completely or not at all, skips entries that it has applied
// before, and returns one result per entry and the services that changed. An error with
// conf.CodeLocked is retried, any other one is final. Restore replaces the whole state,
// or nothing when it fails.
type FSM interface {
	raftguard.StateMachine
	Apply(ctx context.Context, entries []store.Entry) ([]command.Result, []*conf.Record, error)
}

// Options are the settings of a Node. Dir, NodeID and FSM are required, and
// Transport by Open.
type Options struct {
	Dir       string // directory of log and snapshots, created if missing
	NodeID    string // this node's name in the cluster, the same at every start
	FSM       FSM
	Transport raft.Transport // the Node owns it, also when Open fails
	Advertise string         // address of this node, for Recover; Open uses that of the Transport
	Logger    *slog.Logger

	// LogStore is where the log has its entries, one of walstore.Kinds. A log that is
	// elsewhere is moved. Empty: where they are, and in a new directory walstore.WAL.
	LogStore string

	// Join makes a node without files wait until the leader of an existing cluster adds
	// it, instead of starting a cluster.
	Join bool

	// HadLog means that this node had a log before, and MinIndex is the highest index that
	// it has served. With Join a log that is empty, or ends below MinIndex, is damaged:
	// entries that the node has acknowledged are lost.
	HadLog   bool
	MinIndex uint64

	// CheckCommand may reject a command before it is proposed, because a member could not apply
	// it. It must not block.
	CheckCommand func(command.Command) error

	OnApplied  func(index uint64, recs []*conf.Record) // a batch is durable
	OnDigest   func(*command.Digest)                   // a digest was applied
	OnRestored func()                                  // a snapshot replaced the state
	OnBlocked  func(err error)                         // the FSM is locked and retried; nil: no longer

	tuning
}

// tuning are settings that only tests change.
type tuning struct {
	Heartbeat, Election, Lease, Commit time.Duration
	SnapshotInterval                   time.Duration // how often raft checks whether to write one
	SnapshotThreshold, TrailingLogs    uint64
	LogLimit                           int64         // bytes of the log; see logspace.Bound
	SegmentSize                        int           // of the log in segments
	SlowDisk, HungDisk                 time.Duration // limits of an append; see raftguard.DiskMonitor
	LockTimeout                        time.Duration // wait for another process that has Dir open

	wrapLog func(raftguard.LogFile) raftguard.LogFile // a layer between log and file
	refused func(addr string) bool                    // probe of the leader's port
}

func (o *Options) setDefaults() error {
	switch {
	case o.Dir == "":
		return conf.Errorf(conf.CodeUsage, "no directory for the log")
	case o.NodeID == "":
		return conf.Errorf(conf.CodeUsage, "no node id").WithHint("set CONFIG_NODE_ID to a name that no other node has")
	case o.LogStore != "" && !slices.Contains(walstore.Kinds(), o.LogStore):
		return conf.Errorf(conf.CodeUsage, "unknown log store %q", o.LogStore).WithHint("set CONFIG_RAFT_LOG to %s", strings.Join(walstore.Kinds(), " or "))
	case o.FSM == nil:
		return conf.Errorf(conf.CodeInternal, "no state machine")
	}
	// Raft's own timeouts. With a third of them a dead leader was replaced sooner, but
	// also live ones whenever the processors were saturated; raftguard.LeaderProbe is for
	// dead ones. The lease may be long: it ends before a follower can start an election,
	// and no read relies on it. Commit is only for lost commit notifications; it costs
	// the leader a message to each member in that time, also when idle.
	setDefault(&o.Heartbeat, time.Second)
	setDefault(&o.Election, o.Heartbeat)
	setDefault(&o.Lease, o.Heartbeat*5/6)
	setDefault(&o.Commit, 200*time.Millisecond)
	setDefault(&o.SnapshotInterval, 30*time.Second)
	setDefault(&o.SnapshotThreshold, 8192)
	setDefault(&o.TrailingLogs, 2048)
	setDefault(&o.LockTimeout, time.Second)
	setDefault(&o.SlowDisk, 2*time.Second)
	setDefault(&o.HungDisk, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CheckCommand == nil {
		o.CheckCommand = func(command.Command) error { return nil }
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
	if o.wrapLog == nil {
		o.wrapLog = func(f raftguard.LogFile) raftguard.LogFile { return f }
	}
	if o.refused == nil {
		o.refused = raftguard.ConnectionRefused
	}
	return nil
}

func (o *Options) logLimit() int64 {
	return cmp.Or(o.LogLimit, logspace.Limit(durable.Volume(o.Dir)))
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (o *Options) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(o.NodeID)
	c.HeartbeatTimeout = o.Heartbeat
	c.ElectionTimeout = o.Election
	c.LeaderLeaseTimeout = o.Lease
	c.CommitTimeout = o.Commit
	c.BatchApplyCh = true // a batch of proposals waits there as a whole; see proposalQueue
	c.SnapshotInterval = o.SnapshotInterval
	c.SnapshotThreshold = o.SnapshotThreshold
	c.TrailingLogs = o.TrailingLogs
	// raftguard.Reconcile restores a snapshot only if the store is behind it.
	c.NoSnapshotRestoreOnStart = true
	c.Logger = raftguard.NewLogger(o.Logger)
	return c
}
