package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// A new key is with a majority of the servers that vote before the log names it:
// whoever leads next has it, or finds somebody who has. What was handed out and is
// not announced is given back after a while, unless its holder leads: that one
// announces it, like a key that was put in place by hand.

const (
	offerTimeout = 3 * time.Second
	offerKept    = 30 * time.Second // longer than an announcement takes
)

// offer is a key that the leader handed out and that is not announced yet.
type offer struct {
	id string
	at time.Time
}

type keyOffer struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// handOver has the other servers take a key that this leader has stored. It fails
// when fewer than a majority of the voters have it then.
func (c *cluster) handOver(ctx context.Context, kind, id string) error {
	type result struct {
		node string
		err  error
	}
	var others []string
	voter := map[string]bool{}
	for _, s := range c.servers() {
		voter[s.ID] = s.Voter
	}
	voters, have := 0, 0
	for _, votes := range voter {
		if votes {
			voters++
		}
	}
	for _, m := range c.members() {
		if m.Role == conf.MemberServer && m.NodeID != c.self() {
			others = append(others, m.NodeID)
		}
	}
	if voter[c.self()] {
		have++
	}
	done := make(chan result, len(others))
	for _, node := range others {
		go func() {
			octx, cancel := context.WithTimeout(ctx, offerTimeout)
			defer cancel()
			done <- result{node, c.call(octx, node, "/keys/take", keyOffer{kind, id}, nil)}
		}()
	}
	var errs []error
	old := 0
	for range others {
		switch r := <-done; {
		case r.err == nil && voter[r.node]:
			have++
		case r.err == nil:
		case strings.HasPrefix(r.err.Error(), "404"): // of a build that fetches what is announced only
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
		c.log.Warn("members of an older build get the new key after it is announced: do not stop this leader meanwhile", "kind", kind, "key", id)
		return nil
	}
	return conf.Errorf(conf.CodeNoQuorum, "%d of %d voters have the new %s key, and nothing was announced: %w", have, voters, kind, errors.Join(errs...)).
		WithHint("the key in use stays; see: holdfast cluster status; then rotate again")
}

// takeKey fetches a key that the leader offers, from it alone.
func (c *cluster) takeKey(ctx context.Context, p transport.Peer, o keyOffer) error {
	if err := conf.CheckKeyKind(o.Kind); err != nil {
		return err
	}
	ss := c.s.cur.Load()
	if leader, ok := c.leader(); !ok || leader != p.NodeID || ss == nil || p.Role != transport.RoleServer || c.port.Identity().Role != transport.RoleServer {
		return conf.Errorf(conf.CodeDenied, "%s does not lead, as node %s knows it", p.NodeID, c.self())
	}
	ss.tending.Lock()
	defer ss.tending.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	active := c.s.known().Active(o.Kind)
	if active == nil {
		return conf.Errorf(conf.CodeUnsupported, "node %s knows of no %s key yet", c.self(), o.Kind)
	}
	if o.Kind == conf.KeyCA {
		c.s.setOffer(o.Kind, &offer{o.ID, time.Now()})
		return c.holdCA(ctx, o.ID)
	}
	if c.s.keys.Get().Holds(o.Kind, o.ID) {
		return nil
	}
	var k pulledKey
	if err := c.call(ctx, p.NodeID, "/keys/pull?kind="+o.Kind+"&id="+o.ID, nil, &k); err != nil {
		return err
	}
	m, err := received(o.Kind, o.ID, k.Value)
	if err != nil {
		return err
	}
	if err := c.s.stored(keys.Rotate(c.s.o.Env, c.s.o.EnvFile, m, active.ID, c.s.keyOptions())); err != nil {
		return err
	}
	c.s.setOffer(o.Kind, &offer{o.ID, time.Now()})
	c.log.Info("received a key of the cluster that is to follow", "kind", o.Kind, "key", o.ID)
	return nil
}

// offered says whether a key that no entry names may still be named by one.
func (s *supervisor) offered(kind, id string) bool {
	o := s.offer(kind)
	return o != nil && (id == "" || o.id == id) && time.Since(o.at) < offerKept
}

func (s *supervisor) offer(kind string) *offer {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	return s.offers[kind]
}

// setOffer notes what the leader handed out; nil is nothing.
func (s *supervisor) setOffer(kind string, o *offer) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	if s.offers == nil {
		s.offers = map[string]*offer{}
	}
	s.offers[kind] = o
}

// giveBack puts the key in use back into the place of one that was handed out and
// never announced.
func (ss *session) giveBack(ring conf.Keyring, kind, main string) error {
	s := ss.s
	o := s.offer(kind)
	if o == nil || s.offered(kind, o.id) {
		return nil
	}
	if o.id != main || ring.Find(kind, main) != nil || ss.leads() {
		s.setOffer(kind, nil)
		return nil
	}
	err := s.stored(keys.Undo(s.o.Env, s.o.EnvFile, kind, main, s.keyOptions()))
	if err == nil {
		s.setOffer(kind, nil)
		s.log.Warn("a key that was handed out was never announced, and is given back", "kind", kind, "key", main)
	}
	return err
}

// undoOwn takes back what this leader stored for a rotation that did not begin.
func (ss *session) undoOwn(kind, id string) {
	s := ss.s
	var err error
	if kind == conf.KeyCA {
		err = transport.DropNextCA(s.o.tlsDir())
	} else {
		err = s.stored(keys.Undo(s.o.Env, s.o.EnvFile, kind, id, s.keyOptions()))
	}
	if err != nil {
		s.log.Warn("a key that was made for a rotation that did not begin stays in the .env file", "kind", kind, "key", id, "err", err)
	}
}

func (c *cluster) takeRoute(w http.ResponseWriter, r *http.Request) {
	var o keyOffer
	err := decodeBody(w, r, &o)
	if err == nil {
		p, _ := transport.PeerFrom(r.Context())
		ctx, cancel := context.WithTimeout(r.Context(), offerTimeout)
		defer cancel()
		err = c.takeKey(ctx, p, o)
	}
	answer(w, struct{}{}, err)
}
