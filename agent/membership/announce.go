package membership

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	leaderSilence = 2 * time.Second        // a leader that is not heard for so long may not know this agent's address
	firstAnnounce = 250 * time.Millisecond // between two rounds; doubled after each
	lastAnnounce  = 10 * time.Second
)

// helloReply says who leads: who was asked does not, and writes nothing.
type helloReply struct {
	Leader string `json:"leader,omitempty"`
	Addr   string `json:"addr,omitempty"`
}

// selfRow is the row of this agent in the list of members, as it should be.
func selfRow(m *Manager) command.Member {
	id := m.cluster.Port.Identity()
	return command.Member{NodeID: id.NodeID, Role: string(id.Role), Service: m.o.ServiceName, Addr: m.cluster.Port.Addr(), Version: m.o.Version}
}

// Announce tells the servers of the cluster where this agent is, at the start of a replica
// and whenever no leader is heard: a leader dials the address that it knows, and this
// agent may have another one now.
func Announce(ctx context.Context, m *Manager, rep *replica.Replica) {
	for wait := firstAnnounce; ctx.Err() == nil; {
		pause := leaderSilence / 2
		if time.Since(rep.Node().LastContact()) < leaderSilence || m.pending() {
			wait = firstAnnounce
		} else {
			announce(ctx, m)
			pause, wait = wait/2+rand.N(wait), min(2*wait, lastAnnounce)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// announce asks all known servers at once. One that does not lead may tell who does.
func announce(ctx context.Context, m *Manager) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	row := selfRow(m)
	hello := func(node string) (helloReply, error) {
		var reply helloReply
		err := m.cluster.Call(ctx, node, routeHello, row, &reply)
		if conf.CodeOf(err) == conf.CodeDenied && ctx.Err() == nil {
			m.cluster.LogRefused("this member's address or build", row.NodeID, err)
		}
		return reply, err
	}
	var asked sync.WaitGroup
	for _, node := range m.cluster.KnownServers() {
		asked.Go(func() {
			told, err := hello(node)
			if err != nil || told.Leader == "" || told.Leader == row.NodeID || told.Addr == "" {
				return
			}
			if _, known := m.members.Find(told.Leader); !known {
				return
			}
			m.cluster.SetHeard(told.Leader, told.Addr)
			if _, err := hello(told.Leader); err == nil {
				m.log.Info("told the leader where this agent is", "leader", told.Leader, "leader_addr", told.Addr, "addr", row.Addr)
			}
		})
	}
	asked.Wait()
}

// helloElsewhere answers a hello that came to a member that does not lead. It notes the
// address: its vote, or its own election, may be what the cluster needs to have a leader.
func helloElsewhere(ctx context.Context, m *Manager, row command.Member) (any, error) {
	if err := checkHello(ctx, m.cluster, row); err != nil {
		return nil, err
	}
	if _, known := m.members.Find(row.NodeID); known {
		m.cluster.SetHeard(row.NodeID, row.Addr)
	}
	leader, ok := m.cluster.Leader()
	if !ok {
		return nil, conf.Errorf(conf.CodeNoQuorum, "this agent does not lead, and knows of no leader")
	}
	addr, ok := m.cluster.AddrOf(leader)
	if !ok {
		return nil, conf.Errorf(conf.CodeNoQuorum, "this agent does not lead")
	}
	return helloReply{Leader: leader, Addr: addr}, nil
}
