package replication

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// defaultTimeout bounds a proposal whose context has no deadline.
const defaultTimeout = 10 * time.Second

// Member is this node in the cluster. Its methods may be called from any goroutine.
type Member struct {
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
	stopped  chan struct{} // closed when nothing runs any more
	stopErr  error
}

var errStopping = errors.New("the node is stopping")

// Propose replicates c and returns the result of applying it. A rejection is in
// Result.Err. conf.CodeNoQuorum: c was not accepted, because this node is not the
// leader. conf.CodeUnsupported: a member could not apply it. conf.CodeOutcomeUnknown: c
// may be applied now, later or never; repeat it with the same request id.
func (m *Member) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	data, err := command.Encode(c)
	if err != nil {
		return command.Result{}, err
	}
	if err := m.checkCommand(c); err != nil {
		return command.Result{}, err
	}
	if err := m.ready(ctx); err != nil {
		return command.Result{}, err
	}
	p := &proposal{ctx, data, make(chan response, 1)}
	if !m.proposals.enqueue(p) {
		return command.Result{}, noQuorum(errStopping)
	}
	select {
	case a := <-p.response:
		if a.err != nil {
			return command.Result{}, m.proposalError(a.err)
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
	case <-m.fault.Tripped():
		// The response may be there already, or never come: raft's main loop ends when
		// the log is damaged.
		err = m.fault.Err()
	case <-m.stopped:
		err = errStopping
	}
	if m.proposals.cancel(p) {
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
func (m *Member) proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return noQuorum(err)
	}
	if f := m.fault.Err(); f != nil {
		err = f
	}
	return unknown(err) // leadership lost, shut down, disk
}

// ready returns why nothing can be proposed at all, or nil.
func (m *Member) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return noQuorum(err)
	}
	if err := m.fault.Err(); err != nil {
		return noQuorum(err)
	}
	select {
	case <-m.tasks.stopping:
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
func (m *Member) await(ctx context.Context, call func() error) error {
	ch := make(chan error, 1)
	if !m.tasks.start(func() { ch <- call() }) {
		return errStopping
	}
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.fault.Tripped():
		return m.fault.Err()
	case <-m.stopped:
		return errStopping
	}
}

// Barrier returns when all entries committed before it are applied here. Only the
// leader can do it; a new one does so before its first edit.
func (m *Member) Barrier(ctx context.Context) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	err := m.await(ctx, func() error { return m.raft.Barrier(remaining(ctx)).Error() })
	if err == nil {
		err = m.fault.Err() // raft completes a barrier that the FSM did not reach
	}
	if err != nil {
		return noQuorum(err)
	}
	return nil
}

// ReadIndex returns an index that no acknowledged write exceeds. A reader that has
// applied it reads linearizably. It appends an entry: raft's VerifyLeader counts
// non-voters (docs/design/pitfalls.md), so it cannot be used for this.
func (m *Member) ReadIndex(ctx context.Context) (uint64, error) {
	if err := m.Barrier(ctx); err != nil {
		return 0, err
	}
	index, _ := m.fsm.fsm.Applied()
	return index, nil
}

// Indexes returns the last index of the log and the last one applied here.
func (m *Member) Indexes() (last, applied uint64) { return m.raft.LastIndex(), m.raft.AppliedIndex() }

// Leading reports whether this node is the leader and accepts proposals.
func (m *Member) Leading() bool {
	return m.raft.State() == raft.Leader && m.ready(context.Background()) == nil
}

// Leader returns the leader, empty when none is known.
func (m *Member) Leader() (id, addr string) {
	a, i := m.raft.LeaderWithID()
	return string(i), string(a)
}

// LastContact returns when this node last received a message of a leader: now, when it
// is the leader, and the zero time when it never did.
func (m *Member) LastContact() time.Time {
	if m.raft.State() == raft.Leader && m.fault.Err() == nil {
		return time.Now()
	}
	return m.raft.LastContact()
}

// Term returns the current term.
func (m *Member) Term() uint64 { return m.raft.CurrentTerm() }

// LeaderCh receives each change of Leading. Only the newest is kept for a slow reader.
// It is closed by Stop. It has one reader.
func (m *Member) LeaderCh() <-chan bool { return m.leadership }

// Fault receives, once, the error after which this node applies nothing more, and is
// then closed. The store can still be read. Stop the node, and open another one.
func (m *Member) Fault() <-chan error { return m.fault.C() }

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
func (m *Member) monitor() {
	defer close(m.monitored)
	defer close(m.leadership)
	m.electSelf()
	leaderCh, fault := m.raft.LeaderCh(), m.fault.Tripped()
	disk := time.NewTicker(m.disk.Interval())
	defer disk.Stop()
	for {
		select {
		case <-disk.C:
			m.disk.Check()
		case leading := <-leaderCh:
			m.log.Info("leadership changed", "leading", leading, "term", m.Term())
			m.leadership.notify(leading && m.fault.Err() == nil)
			if leading {
				m.updateAddress()
			}
		case <-fault:
			m.log.Error("this node stopped applying changes", "err", m.fault.Err())
			m.leadership.notify(false)
			fault = nil
		case <-m.tasks.stopping:
			m.leadership.notify(false)
			return
		}
	}
}

// electSelf makes a single voter start an election at once: there is no leader whose
// heartbeat it could wait for. If the request fails, the election timeout does it.
func (m *Member) electSelf() {
	servers := m.raft.GetConfiguration().Configuration().Servers
	if len(servers) == 1 && servers[0].ID == m.id && servers[0].Suffrage == raft.Voter {
		m.startElection()
	}
}

// startElection makes this node a candidate, by a TimeoutNow request to itself.
func (m *Member) startElection() {
	addr := m.trans.LocalAddr()
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(m.id), Addr: m.trans.EncodePeer(m.id, addr),
	}}
	m.tasks.start(func() {
		if err := m.trans.TimeoutNow(m.id, addr, &req, &raft.TimeoutNowResponse{}); err != nil {
			m.log.Debug("early election failed", "err", err)
		}
	})
}

// updateAddress writes this node's address to the configuration when it has changed.
func (m *Member) updateAddress() {
	addr := m.trans.LocalAddr()
	for _, s := range m.raft.GetConfiguration().Configuration().Servers {
		if s.ID != m.id || s.Address == addr {
			continue
		}
		m.log.Info("node address changed", "old", s.Address, "new", addr)
		m.tasks.start(func() {
			if err := m.raft.AddVoter(m.id, addr, 0, defaultTimeout).Error(); err != nil {
				m.log.Warn("cannot write the new node address", "err", err)
			}
		})
	}
}

// Stop transfers the leadership to another voter if there is one, waits for what is
// being applied, and closes the files. When ctx ends first, Stop returns its error and
// continues in the background.
func (m *Member) Stop(ctx context.Context) error {
	m.stopOnce.Do(func() {
		m.tasks.stop()
		m.transferLeadership(ctx)
		close(m.fsm.stop)
		// Without a quorum raft steps down after about the lease.
		m.tasks.wait(ctx, min(2*m.lease, 5*time.Second))
		go func() {
			defer close(m.stopped)
			_ = m.raft.Shutdown().Error()
			m.trans.Stop()
			m.notifier.Close()
			<-m.monitored
			m.cancel()
			m.stopErr = m.logs.Close()
		}()
	})
	select {
	case <-m.stopped:
		return m.stopErr
	case <-ctx.Done():
		m.cancel()
		return ctx.Err()
	}
}

// transferLeadership transfers the leadership if another voter can accept it.
func (m *Member) transferLeadership(ctx context.Context) {
	if m.raft.State() != raft.Leader || !raftguard.HasOtherVoter(m.raft, m.id) {
		return
	}
	ch := make(chan error, 1)
	go func() { ch <- m.raft.LeadershipTransfer().Error() }()
	select {
	case err := <-ch:
		if err != nil {
			m.log.Warn("leadership transfer failed", "err", err)
		}
	case <-ctx.Done():
	}
}

// tasks are goroutines that Stop waits for: raft loses futures that are on their way to
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
