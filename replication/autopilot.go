package replication

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// NodeStats is the state of another member's log.
type NodeStats struct {
	LastTerm    uint64
	LastIndex   uint64
	LastContact time.Duration
}

// AutopilotOptions are the rules for voters.
type AutopilotOptions struct {
	Voters    int           // maximum of voters; below it the number is odd
	DeadAfter time.Duration // a member that is unreachable for this long is removed; 0 = never
	Stable    time.Duration // how long a member must be healthy before it votes; default 2 s

	// Stats requests the state of a member. Autopilot's goroutines call it
	// concurrently. An error means that the member is unreachable.
	Stats func(ctx context.Context, id, addr string) (NodeStats, error)
	// Eligible reports whether a member may vote at all. It must not block.
	Eligible func(id string) bool
	// Removed is called after autopilot has removed a member.
	Removed func(id string)
}

// autopilotDelegate implements autopilot.ApplicationIntegration for the leader.
type autopilotDelegate struct {
	node *Node
	o    AutopilotOptions

	mu   sync.Mutex
	seen map[raft.ServerID]time.Time // last successful contact
}

// Autopilot manages the voters until ctx ends: it promotes healthy servers to an odd
// number of at most Voters, replaces dead voters and removes dead members. It blocks. The
// leader runs it while it leads.
func (n *Node) Autopilot(ctx context.Context, o AutopilotOptions) {
	if o.Stable == 0 {
		o.Stable = 2 * time.Second
	}
	eligible := o.Eligible
	o.Eligible = func(id string) bool { return eligible(id) && checkNotCutOff(n, id) == nil }
	p := &autopilotDelegate{node: n, o: o, seen: map[raft.ServerID]time.Time{}}
	ap := autopilot.New(n.raft, p, autopilot.WithLogger(raftguard.NewLogger(n.log)), autopilot.WithPromoter(promoter{autopilot.DefaultPromoter(), p}),
		autopilot.WithUpdateInterval(time.Second), autopilot.WithReconcileInterval(2*time.Second))
	ap.Start(ctx)
	<-ctx.Done()
	<-ap.Stop()
}

func (p *autopilotDelegate) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers: p.o.DeadAfter > 0, LastContactThreshold: 5 * time.Second, MaxTrailingLogs: 1024,
		MinQuorum: 3, ServerStabilizationTime: p.o.Stable,
	}
}

func (p *autopilotDelegate) NotifyState(*autopilot.State) {}

// FetchServerStats implements autopilot.ApplicationIntegration. It requests the state of
// all members concurrently.
func (p *autopilotDelegate) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	out := map[raft.ServerID]*autopilot.ServerStats{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id, s := range servers {
		wg.Go(func() {
			var st NodeStats
			if id == p.node.id {
				last, _ := p.node.Indexes()
				st = NodeStats{LastTerm: p.node.Term(), LastIndex: last}
			} else {
				var err error
				if st, err = p.o.Stats(ctx, string(id), string(s.Address)); err != nil {
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = &autopilot.ServerStats{LastContact: st.LastContact, LastTerm: st.LastTerm, LastIndex: st.LastIndex}
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range out {
		p.seen[id] = time.Now()
	}
	return out
}

// KnownServers implements autopilot.ApplicationIntegration. A member that is unreachable
// for DeadAfter is failed.
func (p *autopilotDelegate) KnownServers() map[raft.ServerID]*autopilot.Server {
	servers, _, err := p.node.Servers()
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[raft.ServerID]*autopilot.Server{}
	for _, s := range servers {
		id := raft.ServerID(s.ID)
		if _, ok := p.seen[id]; !ok {
			p.seen[id] = time.Now() // new: its time runs from now
		}
		status := autopilot.NodeAlive
		if p.o.DeadAfter > 0 && time.Since(p.seen[id]) > p.o.DeadAfter {
			status = autopilot.NodeFailed
		}
		out[id] = &autopilot.Server{
			ID: id, Name: s.ID, Address: raft.ServerAddress(s.Addr), NodeStatus: status, RaftVersion: 3,
			IsLeader: id == p.node.id, NodeType: autopilot.NodeVoter,
		}
	}
	return out
}

func (p *autopilotDelegate) RemoveFailedServer(s *autopilot.Server) {
	p.node.tasks.start(func() {
		ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
		defer cancel()
		if err := p.node.Remove(ctx, string(s.ID)); err != nil {
			p.node.log.Warn("cannot remove a dead member", "node", s.ID, "err", err)
			return
		}
		p.node.log.Warn("removed a dead member", "node", s.ID, "unreachable_for", p.o.DeadAfter)
		if p.o.Removed != nil {
			p.o.Removed(string(s.ID))
		}
	})
}

// promoter is autopilot's own, restricted to eligible members and to their number.
type promoter struct {
	autopilot.Promoter
	p *autopilotDelegate
}

// CalculatePromotionsAndDemotions implements autopilot.Promoter.
func (r promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	changes := r.Promoter.CalculatePromotionsAndDemotions(c, s)
	healthy := 0
	var dead []raft.ServerID
	for id, srv := range s.Servers {
		if srv.State != autopilot.RaftLeader && srv.State != autopilot.RaftVoter {
			continue
		}
		if srv.Health.Healthy {
			healthy++
		} else if !srv.Health.StableSince.IsZero() && time.Since(srv.Health.StableSince) > 10*time.Second {
			dead = append(dead, id)
		}
	}
	free := r.p.o.Voters - len(s.Voters)
	var promote []raft.ServerID
	for _, id := range changes.Promotions {
		if !r.p.o.Eligible(string(id)) {
			continue
		}
		if free <= 0 && len(dead) > 0 && healthy > len(s.Voters)/2 {
			// A dead voter is demoted, and returns as a non-voter.
			changes.Demotions = append(changes.Demotions, dead[0])
			dead = dead[1:]
			free++
		}
		if free <= 0 {
			break
		}
		promote = append(promote, id)
		free--
	}
	// An even number of voters tolerates no more failures than the odd number below it,
	// and with two voters neither may fail. So the last one waits for another one.
	if n := len(s.Voters) - len(changes.Demotions) + len(promote); len(promote) > 0 && n%2 == 0 && n < r.p.o.Voters {
		promote = promote[:len(promote)-1]
	}
	changes.Promotions = promote
	return changes
}
