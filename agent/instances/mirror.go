package instances

import (
	"context"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/localapi/events"
)

const (
	idleEvery    = time.Second      // how often a mirror looks whether it is needed
	followLimit  = 10 * time.Second // for the leader to answer
	followFaults = time.Second      // between two attempts
)

// Mirror tells the pages of this agent what changes at the leader. It asks while there are
// pages.
type Mirror struct {
	needed func() bool
	next   func(ctx context.Context, term, position uint64) (Changes, error)

	mu       sync.Mutex
	position uint64
	services map[string]uint64 // position of the last change
	changed  chan struct{}
}

// NewMirror makes a mirror of the table of the leader, which may be this agent.
func NewMirror(c *peers.Cluster, t *Table, needed func() bool) *Mirror {
	return newMirror(needed, func(ctx context.Context, term, position uint64) (Changes, error) {
		if c.IsReadyLeader() && t.Term() != 0 {
			return t.Since(ctx, term, position, followFor), nil
		}
		leader, ok := c.Leader()
		if !ok {
			return Changes{}, errNotLeading()
		}
		ctx, cancel := context.WithTimeout(ctx, followLimit)
		defer cancel()
		query := url.Values{"term": {strconv.FormatUint(term, 10)}, "position": {strconv.FormatUint(position, 10)}}
		var out Changes
		err := c.Call(ctx, leader, routeChanges+"?"+query.Encode(), nil, &out)
		return out, err
	})
}

func newMirror(needed func() bool, next func(ctx context.Context, term, position uint64) (Changes, error)) *Mirror {
	return &Mirror{needed: needed, next: next, services: map[string]uint64{}, changed: make(chan struct{})}
}

// Run follows until ctx ends.
func (m *Mirror) Run(ctx context.Context) {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	var term, position uint64
	for {
		if m.needed() {
			got, err := m.next(ctx, term, position)
			if err == nil {
				term, position = got.Term, got.Position
				m.note(got.Services)
				if ctx.Err() == nil {
					continue
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Mirror) note(services []string) {
	if len(services) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.position++
	for _, s := range services {
		m.services[s] = m.position
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// Follow adds the changes of the mirror to those of another follower. version returns the
// stable version of a service.
func (m *Mirror) Follow(other events.Follower, version func(service string) uint64) events.Follower {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &follower{Follower: other, m: m, seen: m.position, version: version}
}

// follower is what one stream of events was told.
type follower struct {
	events.Follower
	m       *Mirror
	seen    uint64
	version func(service string) uint64
}

// instancesEvent is the data of an event.
type instancesEvent struct {
	Service string `json:"service"`
	Version uint64 `json:"version"`
}

// Next implements events.Follower.
func (f *follower) Next() ([]events.Event, [3]<-chan struct{}) {
	f.m.mu.Lock()
	changed := f.m.changed
	var names []string
	for s, at := range f.m.services {
		if at > f.seen {
			names = append(names, s)
		}
	}
	f.seen = f.m.position
	f.m.mu.Unlock()
	out, woken := f.Follower.Next()
	for _, s := range names {
		out = append(out, events.Event{Name: "instances", Data: instancesEvent{s, f.version(s)}})
	}
	woken[2] = changed
	return out, woken
}
