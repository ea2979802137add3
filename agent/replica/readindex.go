package replica

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const routeReadIndex = "/readindex"

type readIndex struct {
	Index uint64 `json:"index"`
}

// Consistent makes the next read of the view linearizable: it waits until this agent
// has applied all that was acknowledged before the call.
func (s *Supervisor) Consistent(ctx context.Context) error {
	r := s.current.Load()
	if r == nil {
		return s.Down()
	}
	if s.IsReadyLeader() {
		_, err := r.node.ReadIndex(ctx)
		return err
	}
	leader, err := s.o.Cluster.AwaitLeader(ctx)
	if err != nil {
		return err
	}
	var at readIndex
	if err := s.o.Cluster.Call(ctx, leader, routeReadIndex, nil, &at); err != nil {
		return peers.ReadError(err)
	}
	for {
		snap := s.o.View.Load()
		if snap.Index >= at.Index {
			return nil
		}
		if applied, _ := r.store.Applied(); applied >= at.Index {
			return nil // what came after changed no service
		}
		select {
		case <-snap.Changed():
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return conf.Errorf(conf.CodeStale, "this agent did not catch up with the leader in time: %w", ctx.Err())
		}
	}
}

// RegisterRoutes registers what members ask of a replica: the index to read at, and the
// digest of the state at an index.
func (s *Supervisor) RegisterRoutes() {
	s.o.Cluster.HandleGet(routeReadIndex, func(req *http.Request) (any, error) {
		r, err := s.LeaderReplica()
		if err != nil {
			return nil, err
		}
		index, err := r.node.ReadIndex(req.Context())
		return readIndex{index}, err
	})
	s.o.Cluster.HandleGet(routeDigest, s.serveDigest)
}

// ConfirmLeadership is the linearizable read of a request that another member sent here:
// this agent has to lead, whatever the other one assumes.
func (s *Supervisor) ConfirmLeadership(ctx context.Context) error {
	r, err := s.LeaderReplica()
	if err != nil {
		return err
	}
	_, err = r.node.ReadIndex(ctx)
	return err
}
