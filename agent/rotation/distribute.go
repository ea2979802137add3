package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// A new key is with a majority of the voters before the log names it: the next leader has
// it, or finds a member that has. What was distributed and is not announced is discarded
// after pendingTTL, unless its holder leads: that one announces it, like a key that was
// put in place by hand.

const (
	takeTimeout = 3 * time.Second
	pendingTTL  = 30 * time.Second // longer than an announcement takes
)

// pendingKey is a key that the leader distributed and that is not announced yet.
type pendingKey struct {
	id string
	at time.Time
}

type takeRequest struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Distribute makes the other servers fetch a key that this leader has stored. It fails
// when fewer than a majority of the voters have it then.
func (m *Manager) Distribute(ctx context.Context, kind, id string) error {
	type result struct {
		node string
		err  error
	}
	c := m.o.Cluster
	others, voter := c.OtherServers(), c.Voters()
	voters, have := 0, 0
	for _, votes := range voter {
		if votes {
			voters++
		}
	}
	if voter[c.Self()] {
		have++
	}
	done := make(chan result, len(others))
	for _, node := range others {
		go func() {
			octx, cancel := context.WithTimeout(ctx, takeTimeout)
			defer cancel()
			done <- result{node, c.Call(octx, node, routeTake, takeRequest{kind, id}, nil)}
		}()
	}
	var errs []error
	old := 0
	for range others {
		switch r := <-done; {
		case r.err == nil && voter[r.node]:
			have++
		case r.err == nil:
		case httperror.IsNoRoute(r.err): // of a build that fetches what is announced only
			if voter[r.node] {
				old++
			}
		case voter[r.node]:
			errs = append(errs, conf.Errorf(conf.CodeOf(r.err), "%s: %w", r.node, r.err))
		}
	}
	switch {
	case have > voters/2:
		return nil
	case have+old > voters/2:
		m.log.Warn("members of an older build get the new key after it is announced: do not stop this leader meanwhile", "kind", kind, "key", id)
		return nil
	}
	return conf.Errorf(conf.CodeNoQuorum, "%d of %d voters have the new %s key, and nothing was announced: %w", have, voters, kind, errors.Join(errs...)).
		WithHint("the key in use stays; see: holdfast cluster status; then rotate again")
}

// fetchPendingKey fetches a key that the leader distributes, from it alone.
func (m *Manager) fetchPendingKey(ctx context.Context, p pki.Peer, o takeRequest) error {
	c := m.o.Cluster
	if err := conf.CheckKeyKind(o.Kind); err != nil {
		return err
	}
	if leader, ok := c.Leader(); !ok || leader != p.NodeID || m.sup.Current() == nil || p.Role != pki.RoleServer || c.Port.Identity().Role != pki.RoleServer {
		return conf.Errorf(conf.CodeDenied, "%s does not lead, as node %s knows it", p.NodeID, c.Self())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	active := m.Keyring().Active(o.Kind)
	if active == nil {
		return conf.Errorf(conf.CodeUnsupported, "node %s knows of no %s key yet", c.Self(), o.Kind)
	}
	if o.Kind == conf.KeyCA {
		m.pending[o.Kind] = &pendingKey{o.ID, time.Now()}
		return m.ca.fetchKey(ctx, o.ID)
	}
	if m.Set().Holds(o.Kind, o.ID) {
		return nil
	}
	var k keyReply
	if err := c.Call(ctx, p.NodeID, routePull+"?kind="+o.Kind+"&id="+o.ID, nil, &k); err != nil {
		return err
	}
	got, err := parseReceivedKey(o.Kind, o.ID, k.Value)
	if err != nil {
		return err
	}
	if err := m.file.rotate(got, active.ID); err != nil {
		return err
	}
	m.pending[o.Kind] = &pendingKey{o.ID, time.Now()}
	m.log.Info("received a key of the cluster that is to follow", "kind", o.Kind, "key", o.ID)
	return nil
}

// isPending reports whether a key that no entry names may still be named by one. The
// caller holds mu.
func (m *Manager) isPending(kind, id string) bool {
	p := m.pending[kind]
	return p != nil && (id == "" || p.id == id) && time.Since(p.at) < m.pendingTTL
}

// discardStalePending puts the active key back into the place of one that was distributed
// and never announced. The caller holds mu.
func (m *Manager) discardStalePending(rep *replica.Replica, ring conf.Keyring, kind, main string) error {
	p := m.pending[kind]
	if p == nil || m.isPending(kind, p.id) {
		return nil
	}
	if p.id != main || ring.Find(kind, main) != nil || rep.IsReadyLeader() {
		delete(m.pending, kind)
		return nil
	}
	err := m.file.undo(kind, main)
	if err == nil {
		delete(m.pending, kind)
		m.log.Warn("a distributed key was never announced, and is discarded", "kind", kind, "key", main)
	}
	return err
}

// discardPending takes back what this leader stored for a rotation that did not begin.
// The caller holds mu.
func (m *Manager) discardPending(kind, id string) {
	var err error
	if kind == conf.KeyCA {
		err = pki.DropNextCA(m.ca.dir)
	} else {
		err = m.file.undo(kind, id)
	}
	if err != nil {
		m.log.Warn("a key that was made for a rotation that did not begin stays in the .env file", "kind", kind, "key", id, "err", err)
	}
}
