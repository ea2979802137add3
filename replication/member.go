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
)

// defaultTimeout bounds a proposal whose context has no deadline of its own.
const defaultTimeout = 10 * time.Second

// Member is this node in the group.
type Member struct {
	log    *slog.Logger
	id     raft.ServerID
	addr   raft.ServerAddress
	trans  slowHeartbeats
	allow  func(command.Command) error
	logs   *checkedStore
	fault  *fault
	fsm    *fsm
	raft   *raft.Raft
	lease  time.Duration
	nudges *nudger

	requests *orderly

	slow, hung time.Duration
	pace       pace

	cancel context.CancelFunc // of the machine's context
	lead   chan bool

	groups   groups
	gate     sync.Mutex     // orders calls.Add before the close of stopping
	calls    sync.WaitGroup // goroutines that wait for one of raft's futures
	stopOnce sync.Once
	stopping chan struct{} // closed when Stop begins
	stopped  chan struct{} // closed when nothing runs any more
	watched  chan struct{} // closed when watch has returned
	stopErr  error
}

// Addr is the address under which the other nodes reach this one.
func (m *Member) Addr() string { return string(m.addr) }

// Propose replicates c and returns what applying it gave, a refusal in
// Result.Err included. conf.CodeNoQuorum: c was not taken, this node does not
// lead. conf.CodeUnsupported: a member could not apply it. conf.CodeOutcomeUnknown: c may be applied now, later or never; repeat it
// with the same request id.
func (m *Member) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	data, err := command.Encode(c)
	if err != nil {
		return command.Result{}, err
	}
	if err := m.allow(c); err != nil {
		return command.Result{}, err
	}
	if err := m.ready(ctx); err != nil {
		return command.Result{}, err
	}
	p := &proposal{ctx, data, make(chan answer, 1)}
	if !m.enter(p) {
		return command.Result{}, noQuorum(errStopping)
	}
	select {
	case a := <-p.answer:
		if a.err != nil {
			return command.Result{}, m.proposalError(a.err)
		}
		switch r := a.response.(type) {
		case command.Result:
			return r, nil
		case error:
			return command.Result{}, unknown(r)
		default:
			return command.Result{}, unknown(conf.Errorf(conf.CodeInternal, "a response of type %T", r))
		}
	case <-ctx.Done():
		return command.Result{}, m.giveUp(p, ctx.Err())
	case <-m.fault.tripped:
		// The answer may be there already, or never come: raft's main loop has
		// ended itself when the log is damaged.
		return command.Result{}, m.giveUp(p, m.fault.Err())
	case <-m.stopped:
		return command.Result{}, m.giveUp(p, errStopping)
	}
}

// giveUp says what is known of a proposal that is not waited for any longer.
func (m *Member) giveUp(p *proposal, cause error) error {
	if m.leave(p) {
		return noQuorum(cause)
	}
	return unknown(cause)
}

// spawn runs fn beside the caller, unless the Member is stopping. Stop waits for
// it: raft forgets futures that are on their way to the machine when it shuts down.
func (m *Member) spawn(fn func()) bool {
	m.gate.Lock()
	defer m.gate.Unlock()
	select {
	case <-m.stopping:
		return false
	default:
		m.calls.Go(fn)
		return true
	}
}

func unknown(cause error) error {
	return conf.Errorf(conf.CodeOutcomeUnknown, "the change may or may not have happened: %w", cause).
		WithHint("read the present version, or send the same change with the same Idempotency-Key again")
}

// proposalError maps what raft says of an entry that it was given.
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

func noQuorum(cause error) error {
	return conf.Errorf(conf.CodeNoQuorum, "this node cannot take changes now: %w", cause).
		WithHint("try again; reading goes on meanwhile")
}

// ready says why nothing can be proposed at all.
func (m *Member) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return noQuorum(err)
	}
	if err := m.fault.Err(); err != nil {
		return noQuorum(err)
	}
	select {
	case <-m.stopping:
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

// await runs one of raft's calls, whose futures know no context.
func (m *Member) await(ctx context.Context, call func() error) error {
	ch := make(chan error, 1)
	if !m.spawn(func() { ch <- call() }) {
		return errStopping
	}
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.fault.tripped:
		return m.fault.Err()
	case <-m.stopped:
		return errStopping
	}
}

// Barrier returns when all that was committed before it is applied here. Only
// the leader can pass one; a new one does before its first edit.
func (m *Member) Barrier(ctx context.Context) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	err := m.await(ctx, func() error { return m.raft.Barrier(remaining(ctx)).Error() })
	if err == nil {
		err = m.fault.Err() // raft lets a barrier pass that the machine did not reach
	}
	if err != nil {
		return noQuorum(err)
	}
	return nil
}

// Leading says whether this node takes changes.
func (m *Member) Leading() bool {
	return m.raft.State() == raft.Leader && m.ready(context.Background()) == nil
}

// Leader names the leader, empty when none is known.
func (m *Member) Leader() (id, addr string) {
	a, i := m.raft.LeaderWithID()
	return string(i), string(a)
}

// LastContact is when this node last heard from a leader: now, when it is one,
// and the zero time when it never did.
func (m *Member) LastContact() time.Time {
	if m.raft.State() == raft.Leader && m.fault.Err() == nil {
		return time.Now()
	}
	return m.raft.LastContact()
}

// Term is the present term.
func (m *Member) Term() uint64 { return m.raft.CurrentTerm() }

// LeaderCh tells each change of Leading, the newest only when several come
// before a read. It is closed by Stop. It has one reader.
func (m *Member) LeaderCh() <-chan bool { return m.lead }

// Fault gives, once, the error that stopped this Member from applying the log,
// and is closed then. Reads of the store stay right; the Member must be stopped
// and replaced.
func (m *Member) Fault() <-chan error { return m.fault.out }

// Err is the error that Fault gave, nil while there is none.
func (m *Member) Err() error { return m.fault.Err() }

// Blocked is the error for which the store is being retried (conf.CodeLocked),
// nil when it is not.
func (m *Member) Blocked() error { return m.fsm.Blocked() }

// Snapshot takes a snapshot now and shortens the log. It does nothing when
// nothing has changed since the last one.
func (m *Member) Snapshot(ctx context.Context) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	err := m.await(ctx, func() error { return m.raft.Snapshot().Error() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// Stats describes the state in words, for people.
func (m *Member) Stats() map[string]string {
	s := m.raft.Stats()
	if err := m.fault.Err(); err != nil {
		s["fault"] = err.Error()
	}
	if err := m.Blocked(); err != nil {
		s["blocked"] = err.Error()
	}
	return s
}

// watch tells leadership on, and does what a new leader and a lone voter have to.
func (m *Member) watch() {
	defer close(m.watched)
	defer close(m.lead)
	m.hurry()
	leaderCh, fault := m.raft.LeaderCh(), m.fault.tripped
	disk := time.NewTicker(min(m.slow, m.hung) / 4)
	defer disk.Stop()
	for {
		select {
		case <-disk.C:
			m.checkDisk()
		case leading := <-leaderCh:
			m.log.Info("leadership changed", "leading", leading, "term", m.Term())
			m.tell(leading && m.fault.Err() == nil)
			if leading {
				m.updateAddress()
			}
		case <-fault:
			m.log.Error("this node stopped applying changes", "error", m.fault.Err())
			m.tell(false)
			fault = nil
		case <-m.stopping:
			m.tell(false)
			return
		}
	}
}

// tell replaces what the reader of LeaderCh has not seen yet.
func (m *Member) tell(leading bool) {
	select {
	case <-m.lead:
	default:
	}
	m.lead <- leading
}

// hurry makes a lone voter stand for election at once: there is no other leader
// whose heartbeat it could wait for. Raft's own message for this, sent to itself,
// needs no shorter timeouts. When it does not arrive, the timeouts do it.
func (m *Member) hurry() {
	servers := m.raft.GetConfiguration().Configuration().Servers
	if len(servers) != 1 || servers[0].ID != m.id || servers[0].Suffrage != raft.Voter {
		return
	}
	m.stand()
}

// updateAddress corrects this node's address in the group's membership when it
// listens elsewhere than before.
func (m *Member) updateAddress() {
	for _, s := range m.raft.GetConfiguration().Configuration().Servers {
		if s.ID != m.id || s.Address == m.addr {
			continue
		}
		m.log.Info("this node's address changed", "from", s.Address, "to", m.addr)
		m.spawn(func() {
			if err := m.raft.AddVoter(m.id, m.addr, 0, defaultTimeout).Error(); err != nil {
				m.log.Warn("cannot record the new address", "error", err)
			}
		})
	}
}

// Stop ends the Member in order: leadership goes to another voter when there is
// one, what is being applied is finished, files are closed. When ctx ends first,
// Stop returns its error and the rest happens behind it.
func (m *Member) Stop(ctx context.Context) error {
	m.stopOnce.Do(func() {
		m.gate.Lock()
		close(m.stopping)
		m.gate.Unlock()
		m.handOver(ctx)
		close(m.fsm.stop)
		m.drain(ctx)
		go func() {
			defer close(m.stopped)
			_ = m.raft.Shutdown().Error()
			close(m.requests.done)
			m.nudges.close()
			<-m.watched
			m.cancel()
			if err := guard("close", m.logs.inner.Close); err != nil {
				m.stopErr = storageError(err, "cannot close the log")
			}
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

// drain waits for what is under way: as long as it takes raft to find out that
// there is no quorum, at most.
func (m *Member) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(2*m.lease, 5*time.Second))
	defer cancel()
	done := make(chan struct{})
	go func() { m.calls.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// handOver transfers leadership when there is somebody to take it.
func (m *Member) handOver(ctx context.Context) {
	if m.raft.State() != raft.Leader {
		return
	}
	for _, s := range m.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter || s.ID == m.id {
			continue
		}
		ch := make(chan error, 1)
		go func() { ch <- m.raft.LeadershipTransfer().Error() }()
		select {
		case err := <-ch:
			if err != nil {
				m.log.Warn("leadership was not handed over", "error", err)
			}
		case <-ctx.Done():
		}
		return
	}
}
