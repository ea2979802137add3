package documents

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// LocalProvider provides the documents of the local API; it implements localapi.Source.
type LocalProvider struct {
	v     *View
	age   func() time.Duration // since a leader was heard from; negative: never
	state atomic.Pointer[responseState]
}

// NewLocalProvider reads v. age returns the time since a leader was last heard from,
// negative for never.
func NewLocalProvider(v *View, age func() time.Duration) *LocalProvider {
	p := &LocalProvider{v: v, age: age}
	p.refresh()
	return p
}

// responseState is a snapshot and the headers that describe it.
type responseState struct {
	snap  *Snapshot
	state *localapi.State
}

// Get returns the document of a service and a channel that is closed when it changes.
func (p *LocalProvider) Get(service string) (*localapi.Document, <-chan struct{}, bool) {
	e, ok := p.v.Get(service)
	if !ok {
		return nil, nil, false
	}
	return e.Doc, e.Changed(), true
}

// Missing returns a channel that is closed when an unknown service appears.
func (p *LocalProvider) Missing(service string) <-chan struct{} { return p.v.Missing(service) }

// Names lists the services that exist.
func (p *LocalProvider) Names() []string {
	var out []string
	p.v.Load().Range(func(e *Entry) bool {
		if e.Record.Exists() {
			out = append(out, e.Record.Service)
		}
		return true
	})
	return out
}

// State describes a snapshot that is at least as new as any document that Get
// returned before: a response must not label a default as a stored value.
func (p *LocalProvider) State() *localapi.State {
	d := p.state.Load()
	if d.snap != p.v.Load() {
		d = p.refresh()
	}
	return d.state
}

// Run keeps the state current until ctx ends: at each snapshot, and each second for
// the age.
func (p *LocalProvider) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		d := p.refresh()
		select {
		case <-ctx.Done():
			return
		case <-d.snap.Changed():
		case <-tick.C:
		}
	}
}

func (p *LocalProvider) refresh() *responseState {
	snap := p.v.Load()
	d := &responseState{snap, localapi.NewState(snap.Epoch, snap.Source, snap.Index, p.age())}
	p.state.Store(d)
	return d
}

// Take returns what is served and what is staged of it, at one moment.
type Take func() (*Snapshot, map[string]*lkg.Staged)

// Whole takes all that a view serves, where nothing is ever staged.
func Whole(v *View) Take {
	return func() (*Snapshot, map[string]*lkg.Staged) { return v.Load(), nil }
}

// LKGProvider provides the content of the last-known-good file: only what was verified.
// It implements lkg.Provider.
type LKGProvider struct {
	take Take
	// verified says whether all of a snapshot may be kept; nil: what comes from the replica.
	verified func(*Snapshot) bool

	mu    sync.Mutex
	epoch string   // of the last returned content: indexes of two epochs do not compare
	past  []string // epochs before it, the oldest first
}

// NewLKGProvider provides what take returns. epoch and past are those of the file that was loaded;
// verified says whether all of a snapshot that is not from the replica may be
// stored, nil for never.
func NewLKGProvider(take Take, epoch string, past []string, verified func(*Snapshot) bool) *LKGProvider {
	return &LKGProvider{take: take, epoch: epoch, past: past, verified: verified}
}

// Past lists the epochs before one, the oldest first.
func (p *LKGProvider) Past(epoch string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch == "" || p.epoch == epoch || slices.Contains(p.past, p.epoch) {
		return p.past
	}
	return append(slices.Clone(p.past), p.epoch)
}

// Next waits for content newer than the index after(), or of another epoch.
func (p *LKGProvider) Next(ctx context.Context, after func() uint64) (*lkg.Content, error) {
	for {
		snap, staged := p.take()
		if snap.Source == view.SourceReplica || p.verified != nil && p.verified(snap) {
			p.mu.Lock()
			newer := snap.Index > after() || snap.Epoch != p.epoch
			if newer {
				p.enter(snap.Epoch)
			}
			past := p.past
			p.mu.Unlock()
			if newer {
				c := content(snap)
				c.PastEpochs, c.Staged = past, staged
				return c, nil
			}
		}
		select {
		case <-snap.Changed():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter records the epoch of what is returned now. An epoch that was left stays
// in the list: a store or a message of it is older than what was served.
func (p *LKGProvider) enter(epoch string) {
	if p.epoch != "" && p.epoch != epoch && !slices.Contains(p.past, p.epoch) {
		p.past = append(slices.Clone(p.past), p.epoch)
	}
	p.epoch = epoch
}

func content(snap *Snapshot) *lkg.Content {
	c := &lkg.Content{Epoch: snap.Epoch, Index: snap.Index, GeneratedAt: time.Now()}
	c.Records = make([]*conf.Record, 0, snap.Len())
	snap.Range(func(e *Entry) bool {
		c.Records = append(c.Records, e.Record)
		return true
	})
	return c
}
