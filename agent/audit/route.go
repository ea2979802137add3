package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/pki"
)

const routeAccess = "/access"

// RegisterRoutes registers the route by which members deliver their rows to the leader.
func RegisterRoutes(c *peers.Cluster, s *replica.Supervisor) {
	quota := peers.NewQuota("bytes of the access log", reportedPerSecond, reportedAtOnce)
	peers.HandlePost(c, routeAccess, func(ctx context.Context, p pki.Peer, a command.Audit) (any, error) {
		r, err := s.LeaderReplica()
		if err != nil {
			return nil, err
		}
		if err := CheckReported(&a); err != nil {
			return nil, err
		}
		if err := quota.Take(p.NodeID, reportedSize(&a), time.Now()); err != nil {
			c.LogRefused("a batch of the access log", p.NodeID, err)
			return nil, err
		}
		ClampTimestamps(a.Rows, time.Now())
		a.Source = QueueID(p.NodeID, p.Role == pki.RoleServer, a.Source)
		return struct{}{}, r.Propose(ctx, &a)
	})
}

// Sender writes rows to the log, through the leader when that is another member. The queue
// has the name of this node before its own, as the leader sees it in the certificate.
func Sender(c *peers.Cluster, s *replica.Supervisor) func(context.Context, *command.Audit) error {
	return func(ctx context.Context, b *command.Audit) error {
		if !c.IsReadyLeader() {
			if leader, ok := c.Leader(); ok {
				return c.Call(ctx, leader, routeAccess, b, nil)
			}
		}
		own := *b
		own.Source = QueueID(c.Self(), true, b.Source) // only servers lead
		res, err := s.Propose(ctx, &own)
		if err == nil && res.Err != nil {
			err = res.Err
		}
		return err
	}
}

// PruneJob is the leader job that deletes old rows; see Prune.
func PruneJob(accessRetention, historyRetention time.Duration, log *slog.Logger) replica.Job {
	return func(ctx context.Context, r *replica.Replica) {
		Prune(ctx, pruner{r}, accessRetention, historyRetention, log)
	}
}

type pruner struct{ *replica.Replica }

func (p pruner) Prunable(ctx context.Context, access, history string) (bool, error) {
	return p.Store().Queries.Prunable(ctx, access, history)
}
