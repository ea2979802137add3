package backend

import (
	"bytes"
	"fmt"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Follow returns a follower of the state of this agent, for one stream of events.
func (b *Backend) Follow() events.Follower { return &follower{b: b} }

// follower remembers what one stream was told.
type follower struct {
	b               *Backend
	seen            *documents.Snapshot
	health, cluster string
}

type serviceEvent struct {
	Service string `json:"service"`
	Version uint64 `json:"version"`
	Deleted bool   `json:"deleted,omitempty"`
}

type schemaEvent struct {
	Service string `json:"service"`
}

type rolloutEvent struct {
	Service string `json:"service"`
	ID      string `json:"id"` // empty when none runs
}

type healthEvent struct {
	OK          bool   `json:"ok"`
	Mode        string `json:"operational_mode"`
	ConfigEpoch string `json:"config_epoch"`
}

type clusterEvent struct {
	Leader string `json:"leader"`
}

// Next implements events.Follower.
func (f *follower) Next() (out []events.Event, woken [3]<-chan struct{}) {
	state, snap := f.b.o.Status.Get(), f.b.o.View.Load() // before what they announce is read
	woken = [3]<-chan struct{}{snap.Changed(), state.Changed}
	first := f.seen == nil
	if !first {
		out = f.services(snap)
	}
	f.seen = snap
	h := f.b.Health()
	text := fmt.Sprint(h.OK, h.DatabaseStatus, h.OperationalMode, h.ConfigEpoch, h.LKGCacheValid, h.LitestreamStatus)
	for _, s := range []*string{h.Event, h.Err} {
		if s != nil {
			text += "\n" + *s
		}
	}
	if text != f.health && !first {
		out = append(out, events.Event{Name: "health", Data: healthEvent{h.OK, string(h.OperationalMode), h.ConfigEpoch}})
	}
	leader := f.b.sup.Leader()
	// The list of members is applied after Raft's configuration: who heard of that one only would read too early.
	members := fmt.Sprint(leader, f.b.sup.Servers())
	for _, m := range f.b.o.Cluster.Members() {
		members += "\n" + m.NodeID + " " + m.Addr
	}
	if members != f.cluster && !first {
		out = append(out, events.Event{Name: "cluster", Data: clusterEvent{leader}})
	}
	f.health, f.cluster = text, members
	return out, woken
}

// services are the changes of documents and schemas. A new signature of the same version is
// none.
func (f *follower) services(snap *documents.Snapshot) (out []events.Event) {
	snap.Since(f.seen, func(e *documents.Entry) bool {
		now := e.Record
		was, known := f.seen.Get(now.Service)
		if !known || was.Record.Version != now.Version || was.Record.Deleted != now.Deleted || was.Record.Epoch != now.Epoch {
			out = append(out, events.Event{Name: "service", Data: serviceEvent{now.Service, now.Version, now.Deleted}})
		}
		if len(now.Schema) > 0 && !known || known && !bytes.Equal(was.Record.Schema, now.Schema) {
			out = append(out, events.Event{Name: "schema", Data: schemaEvent{now.Service}})
		}
		at, before := rolloutOf(now), [2]string{}
		if known {
			before = rolloutOf(was.Record)
		}
		if at != before {
			out = append(out, events.Event{Name: "rollout", Data: rolloutEvent{now.Service, at[0]}})
		}
		return true
	})
	return out
}

// rolloutOf is the id of the rollout of a service that runs, and where it is.
func rolloutOf(r *conf.Record) (at [2]string) {
	if r.Staged != nil && r.Staged.Rollout != nil {
		ro := r.Staged.Rollout
		at = [2]string{ro.ID, fmt.Sprint(ro.Step, ro.Paused)}
	}
	return at
}
