package replication

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

const votersHint = "holdfast cluster status shows who votes; holdfast cluster promote makes a server a voter"

// Server is a member of the cluster, as the Raft log has it.
type Server struct {
	ID    string
	Addr  string
	Voter bool
}

// Servers returns the members, and the log index of the last change to them, as far as
// this node's log reaches.
func (n *Node) Servers() (servers []Server, index uint64, err error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, 0, noQuorum(err)
	}
	for _, s := range f.Configuration().Servers {
		servers = append(servers, Server{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return servers, f.Index(), nil
}

// CheckAddr returns the error of AddNonvoter for an address that another member has.
func (n *Node) CheckAddr(id, addr string) error {
	servers, _, err := n.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.ID != id && s.Addr == addr {
			return addrTaken(s.ID, addr)
		}
	}
	return nil
}

func addrTaken(id, addr string) error {
	return conf.Errorf(conf.CodeConflict, "the address %s belongs to member %s", addr, id).
		WithHint("remove that member first if it no longer exists: holdfast cluster remove %s", id)
}

// AddNonvoter adds a member that does not vote, or changes the address of a member. A
// voter stays a voter.
func (n *Node) AddNonvoter(ctx context.Context, id, addr string) error {
	servers, prev, err := n.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		switch {
		case s.ID == id && s.Addr == addr:
			return nil
		case s.ID == id && s.Voter:
			return n.change(ctx, func(t time.Duration) raft.IndexFuture {
				return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), prev, t)
			})
		case s.ID != id && s.Addr == addr:
			return addrTaken(s.ID, addr)
		}
	}
	return n.change(ctx, func(t time.Duration) raft.IndexFuture {
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), prev, t)
	})
}

// Promote makes a member a voter.
func (n *Node) Promote(ctx context.Context, id string) error {
	s, prev, err := n.find(id)
	if err != nil || s.Voter {
		return err
	}
	if err := checkNotCutOff(n, id); err != nil {
		return err
	}
	return n.change(ctx, func(t time.Duration) raft.IndexFuture {
		return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(s.Addr), prev, t)
	})
}

// Demote makes a voter a non-voter. Raft rejects it for the last voter.
func (n *Node) Demote(ctx context.Context, id string) error {
	s, prev, err := n.find(id)
	if err != nil || !s.Voter {
		return err
	}
	return n.change(ctx, func(t time.Duration) raft.IndexFuture { return n.raft.DemoteVoter(raft.ServerID(id), prev, t) })
}

// Remove removes a member. It is not notified: it must ask.
func (n *Node) Remove(ctx context.Context, id string) error {
	_, prev, err := n.find(id)
	if err != nil {
		return err
	}
	return n.change(ctx, func(t time.Duration) raft.IndexFuture { return n.raft.RemoveServer(raft.ServerID(id), prev, t) })
}

// Transfer transfers the leadership to the voter with this id, or with "" to the one
// whose log is the most complete.
func (n *Node) Transfer(ctx context.Context, id string) error {
	if !n.IsLeader() {
		return noQuorum(raft.ErrNotLeader)
	}
	transfer := n.raft.LeadershipTransfer
	if id != "" {
		to, _, err := n.find(id)
		switch {
		case err != nil:
			return err
		case id == string(n.id):
			return conf.Errorf(conf.CodeInvalid, "%s leads already", id).WithHint("name another voter, or none to let the leader choose")
		case !to.Voter:
			return conf.Errorf(conf.CodeInvalid, "%s does not vote, and cannot lead", id).WithHint(votersHint)
		}
		transfer = func() raft.Future {
			return n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(to.Addr))
		}
	} else if !raftguard.HasOtherVoter(n.raft, n.id) {
		return conf.Errorf(conf.CodeInvalid, "no other voter can take the leadership").WithHint(votersHint)
	}
	if err := n.await(ctx, func() error { return transfer().Error() }); err != nil {
		return n.proposalError(err)
	}
	return nil
}

func (n *Node) find(id string) (Server, uint64, error) {
	servers, index, err := n.Servers()
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

// change makes one change of the membership, if it is still the one that the caller read.
func (n *Node) change(ctx context.Context, f func(time.Duration) raft.IndexFuture) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	if err := n.await(ctx, func() error { return f(remaining(ctx)).Error() }); err != nil {
		return n.proposalError(err)
	}
	return nil
}
