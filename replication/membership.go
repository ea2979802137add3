package replication

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Server is one member of the group, as the log knows it.
type Server struct {
	ID    string
	Addr  string
	Voter bool
}

// Servers lists the members and the log index at which they became so. Any
// member answers, as far as its log goes.
func (m *Member) Servers() (servers []Server, index uint64, err error) {
	f := m.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, 0, noQuorum(err)
	}
	for _, s := range f.Configuration().Servers {
		servers = append(servers, Server{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return servers, f.Index(), nil
}

// AddNonvoter adds a member that gets everything and does not vote, or records
// the new address of one that is there. A voter stays a voter.
func (m *Member) AddNonvoter(ctx context.Context, id, addr string) error {
	servers, prev, err := m.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		switch {
		case s.ID == id && s.Addr == addr:
			return nil
		case s.ID == id && s.Voter:
			return m.change(ctx, func(t time.Duration) raft.IndexFuture {
				return m.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), prev, t)
			})
		case s.ID != id && s.Addr == addr:
			return conf.Errorf(conf.CodeConflict, "the address %s belongs to member %s", addr, s.ID).
				WithHint("remove that member first if it is gone: holdfast cluster remove %s", s.ID)
		}
	}
	return m.change(ctx, func(t time.Duration) raft.IndexFuture {
		return m.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), prev, t)
	})
}

// Promote makes a member a voter.
func (m *Member) Promote(ctx context.Context, id string) error {
	s, prev, err := m.find(id)
	if err != nil || s.Voter {
		return err
	}
	return m.change(ctx, func(t time.Duration) raft.IndexFuture {
		return m.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(s.Addr), prev, t)
	})
}

// Demote makes a voter a non-voter. The last voter stays one.
func (m *Member) Demote(ctx context.Context, id string) error {
	s, prev, err := m.find(id)
	if err != nil || !s.Voter {
		return err
	}
	return m.change(ctx, func(t time.Duration) raft.IndexFuture { return m.raft.DemoteVoter(raft.ServerID(id), prev, t) })
}

// Remove takes a member out of the group. It is not told: it has to ask.
func (m *Member) Remove(ctx context.Context, id string) error {
	_, prev, err := m.find(id)
	if err != nil {
		return err
	}
	return m.change(ctx, func(t time.Duration) raft.IndexFuture { return m.raft.RemoveServer(raft.ServerID(id), prev, t) })
}

// Transfer gives the leadership to the voter named, or with "" to the one that
// is furthest.
func (m *Member) Transfer(ctx context.Context, id string) error {
	if !m.Leading() {
		return noQuorum(raft.ErrNotLeader)
	}
	servers, _, err := m.Servers()
	if err != nil {
		return err
	}
	if id != "" {
		s, _, err := m.find(id)
		switch {
		case err != nil:
			return err
		case id == string(m.id):
			return conf.Errorf(conf.CodeInvalid, "%s leads already", id).WithHint("name another voter, or none to let the leader choose")
		case !s.Voter:
			return conf.Errorf(conf.CodeInvalid, "%s does not vote, and cannot lead", id).
				WithHint("holdfast cluster status shows who votes; holdfast cluster promote makes a server a voter")
		}
	}
	if !slices.ContainsFunc(servers, func(s Server) bool { return s.Voter && s.ID != string(m.id) && (id == "" || s.ID == id) }) {
		return conf.Errorf(conf.CodeInvalid, "no other voter can take the leadership").
			WithHint("holdfast cluster status shows who votes; holdfast cluster promote makes a server a voter")
	}
	if id == "" {
		return m.membership(m.await(ctx, func() error { return m.raft.LeadershipTransfer().Error() }))
	}
	s, _, err := m.find(id)
	if err != nil {
		return err
	}
	return m.membership(m.await(ctx, func() error {
		return m.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(s.Addr)).Error()
	}))
}

// ReadIndex answers an index of which the leader knows that no acknowledged
// write is later. A reader that has applied it reads linearizably. It passes an
// entry through the log: hashicorp/raft's VerifyLeader counts non-voters and so
// cannot be trusted for this.
func (m *Member) ReadIndex(ctx context.Context) (uint64, error) {
	if err := m.Barrier(ctx); err != nil {
		return 0, err
	}
	index, _ := m.fsm.machine.Applied()
	return index, nil
}

// Indexes are the last index of the log and the last one applied here.
func (m *Member) Indexes() (last, applied uint64) { return m.raft.LastIndex(), m.raft.AppliedIndex() }

func (m *Member) find(id string) (Server, uint64, error) {
	servers, index, err := m.Servers()
	if err != nil {
		return Server{}, 0, err
	}
	for _, s := range servers {
		if s.ID == id {
			return s, index, nil
		}
	}
	return Server{}, 0, conf.Errorf(conf.CodeNotFound, "no member %q", id).WithHint("holdfast cluster members lists them")
}

// change is one change of the membership. It is made only if the membership is
// still the one that the caller looked at.
func (m *Member) change(ctx context.Context, f func(time.Duration) raft.IndexFuture) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	return m.membership(m.await(ctx, func() error { return f(remaining(ctx)).Error() }))
}

func (m *Member) membership(err error) error {
	if err == nil {
		return nil
	}
	return m.proposalError(err)
}
