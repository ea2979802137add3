package replication

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// defaultTimeout bounds a proposal whose context has no deadline.
const defaultTimeout = 10 * time.Second

// Node is this node in the cluster. Its methods may be called from any goroutine.
type Node struct {
	log      *slog.Logger
	id       raft.ServerID
	raft     *raft.Raft
	trans    *raftguard.Transport
	logs     *raftguard.ChecksumStore
	fsm      *applier
	fault    *raftguard.Fault
	disk     *raftguard.DiskMonitor
	notifier *raftguard.CommitNotifier

	checkCommand func(command.Command) error
	proposals    proposalQueue
	tasks        tasks
	lease        time.Duration

	leadership leadershipCh
	monitored  chan struct{} // closed when monitor has returned

	cancel   context.CancelFunc // of the context of the FSM
	stopOnce sync.Once
	stopped  chan struct{} // closed when all goroutines have ended
	stopErr  error
}

var errStopping = errors.New("the node is stopping")

// Propose replicates c and returns the result of applying it. A rejection is in
// Result.Err. conf.CodeNoQuorum: c was not accepted, because this node is not the
// leader. conf.CodeUnsupported: a member could not apply it. conf.CodeOutcomeUnknown: c
// may be applied now, later or never; repeat it with the same request id.
func (n *Node) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	data, err := command.Encode(c)
	if err != nil {
		return command.Result{}, err
	}
	if err := n.ready(ctx); err != nil {
		return command.Result{}, err
	}
	if err := n.checkCommand(c); err != nil {
		return command.Result{}, err
	}
	p := &proposal{ctx, data, make(chan response, 1)}
	if !n.proposals.enqueue(p) {
		return command.Result{}, noQuorum(errStopping)
	}
	select {
	case a := <-p.response:
		if a.err != nil {
			return command.Result{}, n.proposalError(a.err)
		}
		switch r := a.value.(type) {
		case command.Result:
			return r, nil
		case error:
			return command.Result{}, unknown(r)
		default:
			return command.Result{}, unknown(conf.Errorf(conf.CodeInternal, "a response of type %T", r))
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-n.fault.Tripped():
		// The response may be there already, or never come: raft's main loop ends when
		// the log is damaged.
		err = n.fault.Err()
	case <-n.stopped:
		err = errStopping
	}
	if n.proposals.cancel(p) {
		return command.Result{}, noQuorum(err)
	}
	return command.Result{}, unknown(err)
}

func unknown(cause error) error {
	return conf.Errorf(conf.CodeOutcomeUnknown, "the change may or may not have happened: %w", cause).
		WithHint("read the present version, or send the same change with the same Idempotency-Key again")
}

func noQuorum(cause error) error {
	return conf.Errorf(conf.CodeNoQuorum, "this agent does not accept writes: %w", cause).
		WithHint("retry; reads are not affected")
}

// proposalError returns raft's error for an entry that it was given, with a code.
func (n *Node) proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return noQuorum(err)
	}
	if f := n.fault.Err(); f != nil {
		err = f
	}
	return unknown(err) // leadership lost, shut down, disk
}

// ready returns why nothing can be proposed at all, or nil.
func (n *Node) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return noQuorum(err)
	}
	if err := n.fault.Err(); err != nil {
		return noQuorum(err)
	}
	select {
	case <-n.tasks.stopping:
		return noQuorum(errStopping)
	default:
		return nil
	}
}

func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Millisecond)
	}
	return defaultTimeout
}

// await runs a call that waits for a future of raft. Futures have no context.
func (n *Node) await(ctx context.Context, call func() error) error {
	ch := make(chan error, 1)
	if !n.tasks.start(func() { ch <- call() }) {
		return errStopping
	}
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.fault.Tripped():
		return n.fault.Err()
	case <-n.stopped:
		return errStopping
	}
}

// Barrier returns when all entries committed before it are applied here. Only the
// leader can do it; a new one does so before its first edit.
func (n *Node) Barrier(ctx context.Context) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	err := n.await(ctx, func() error { return n.raft.Barrier(remaining(ctx)).Error() })
	if err == nil {
		err = n.fault.Err() // raft completes a barrier that the FSM did not reach
	}
	if err != nil {
		return noQuorum(err)
	}
	return nil
}

// Snapshot makes a snapshot of what is applied, which new members get from then on. It
// does nothing when nothing was applied since the last one.
func (n *Node) Snapshot(ctx context.Context) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	err := n.await(ctx, func() error { return n.raft.Snapshot().Error() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// ReadIndex returns an index that no acknowledged write exceeds. A reader that has
// applied it reads linearizably. It appends an entry: raft's VerifyLeader counts
// non-voters (docs/design/pitfalls.md), so it cannot be used for this.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if err := n.Barrier(ctx); err != nil {
		return 0, err
	}
	index, _ := n.fsm.fsm.Applied()
	return index, nil
}

// Indexes returns the last index of the log and the last one applied here.
func (n *Node) Indexes() (last, applied uint64) { return n.raft.LastIndex(), n.raft.AppliedIndex() }

// IsLeader reports whether this node is the leader and accepts proposals.
func (n *Node) IsLeader() bool {
	return n.raft.State() == raft.Leader && n.ready(context.Background()) == nil
}

// Leader returns the leader, empty when none is known.
func (n *Node) Leader() (id, addr string) {
	a, i := n.raft.LeaderWithID()
	return string(i), string(a)
}

// LastContact returns when this node last received a message of a leader: now, when it
// is the leader, and the zero time when it never did.
func (n *Node) LastContact() time.Time {
	if n.raft.State() == raft.Leader && n.fault.Err() == nil {
		return time.Now()
	}
	return n.raft.LastContact()
}

// Term returns the current term.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

// LeaderCh receives each change of IsLeader. Only the newest is kept for a slow reader.
// It is closed by Stop. It has one reader.
func (n *Node) LeaderCh() <-chan bool { return n.leadership }

// Fault receives, once, the error after which this node applies nothing more, and is
// then closed. The store can still be read. Stop the node, and open another one.
func (n *Node) Fault() <-chan error { return n.fault.C() }

// leadershipCh has the newest change of leadership.
type leadershipCh chan bool

// notify replaces a value that was not read yet.
func (c leadershipCh) notify(leading bool) {
	select {
	case <-c:
	default:
	}
	c <- leading
}

// monitor reports changes of leadership and checks the disk, until Stop.
func (n *Node) monitor() {
	defer close(n.monitored)
	defer close(n.leadership)
	n.electSelf()
	leaderCh, fault := n.raft.LeaderCh(), n.fault.Tripped()
	disk := time.NewTicker(n.disk.Interval())
	defer disk.Stop()
	for {
		select {
		case <-disk.C:
			n.disk.Check()
		case leading := <-leaderCh:
			n.log.Info("leadership changed", "leading", leading, "term", n.Term())
			n.leadership.notify(leading && n.fault.Err() == nil)
			if leading {
				n.updateAddress()
			}
		case <-fault:
			alarm.ApplyStops.Report(n.log, "err", n.fault.Err())
			n.leadership.notify(false)
			fault = nil
		case <-n.tasks.stopping:
			n.leadership.notify(false)
			return
		}
	}
}

// electSelf makes a single voter start an election at once: there is no leader whose
// heartbeat it could wait for. If the request fails, the election timeout does it.
func (n *Node) electSelf() {
	servers := n.raft.GetConfiguration().Configuration().Servers
	if len(servers) == 1 && servers[0].ID == n.id && servers[0].Suffrage == raft.Voter {
		n.startElection()
	}
}

// startElection makes this node a candidate. It does not block.
func (n *Node) startElection() {
	n.tasks.start(func() {
		if err := n.trans.StartElection(); err != nil {
			n.log.Debug("early election failed", "err", err)
		}
	})
}

// updateAddress writes this node's address to the configuration when it has changed.
func (n *Node) updateAddress() {
	addr := n.trans.LocalAddr()
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.ID != n.id || s.Address == addr {
			continue
		}
		n.log.Info("node address changed", "old", s.Address, "new", addr)
		n.tasks.start(func() {
			if err := n.raft.AddVoter(n.id, addr, 0, defaultTimeout).Error(); err != nil {
				n.log.Warn("cannot write the new node address", "err", err)
			}
		})
	}
}

// Stop transfers the leadership to another voter if there is one, waits for what is
// being applied, and closes the files. When ctx ends first, Stop returns its error and
// continues in the background.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() {
		n.tasks.stop()
		n.transferLeadership(ctx)
		close(n.fsm.stop)
		// Without a quorum raft steps down after about the lease.
		n.tasks.wait(ctx, min(2*n.lease, 5*time.Second))
		go func() {
			defer close(n.stopped)
			_ = n.raft.Shutdown().Error()
			n.trans.Stop()
			n.notifier.Close()
			<-n.monitored
			n.cancel()
			n.stopErr = n.logs.Close()
		}()
	})
	select {
	case <-n.stopped:
		return n.stopErr
	case <-ctx.Done():
		n.cancel()
		return ctx.Err()
	}
}

// transferLeadership transfers the leadership if another voter can accept it.
func (n *Node) transferLeadership(ctx context.Context) {
	if n.raft.State() != raft.Leader || !raftguard.HasOtherVoter(n.raft, n.id) {
		return
	}
	ch := make(chan error, 1)
	go func() { ch <- n.raft.LeadershipTransfer().Error() }()
	select {
	case err := <-ch:
		if err != nil {
			n.log.Warn("leadership transfer failed", "err", err)
		}
	case <-ctx.Done():
	}
}

// tasks are goroutines that Stop waits for: raft loses futures that wait for
// the FSM when it shuts down.
type tasks struct {
	mu       sync.Mutex // orders wg.Go before the close of stopping
	wg       sync.WaitGroup
	stopping chan struct{} // closed when Stop begins
}

// start runs fn on a goroutine. It reports false after stop.
func (t *tasks) start(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.stopping:
		return false
	default:
		t.wg.Go(fn)
		return true
	}
}

func (t *tasks) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.stopping)
}

// wait returns when all have ended, ctx ends, or limit has passed.
func (t *tasks) wait(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan struct{})
	go func() { t.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
