package replica

import (
	"context"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Consistent makes the next read of the view linearizable: it waits until this agent
// has applied all that was acknowledged before the call.
func Consistent(ctx context.Context, s *Supervisor) error {
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
