package agent

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/view"
)

// source gives the local API its documents.
type source struct {
	v     *liveView
	s     *supervisor
	state atomic.Pointer[described]
}

// described is a snapshot and the headers that describe it.
type described struct {
	snap  *view.Snapshot[*localapi.Document]
	state *localapi.State
}

func (l *source) Get(service string) (*localapi.Document, <-chan struct{}, bool) {
	e, ok := l.v.Get(service)
	if !ok {
		return nil, nil, false
	}
	return e.Doc, e.Changed(), true
}

func (l *source) Missing(service string) <-chan struct{} { return l.v.Missing(service) }

func (l *source) Names() []string {
	var out []string
	l.v.Load().Range(func(e *entry) bool {
		if e.Record.Exists() {
			out = append(out, e.Record.Service)
		}
		return true
	})
	return out
}

// State describes a snapshot that is at least as new as any document that Get
// returned before: a default must not go out under the name of what it replaced.
func (l *source) State() *localapi.State {
	d := l.state.Load()
	if d.snap != l.v.Load() {
		d = l.refresh()
	}
	return d.state
}

// run keeps the state true: at each snapshot, and each second for the age.
func (l *source) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		d := l.refresh()
		select {
		case <-ctx.Done():
			return
		case <-d.snap.Changed():
		case <-tick.C:
		}
	}
}

func (l *source) refresh() *described {
	snap := l.v.Load()
	d := &described{snap, localapi.NewState(snap.Epoch, snap.Source, snap.Index, l.s.age())}
	l.state.Store(d)
	return d
}

// age is the time since this agent last heard from a leader; negative when it
// never did. Without a replica it counts from the last-known-good file's writing.
func (s *supervisor) age() time.Duration {
	last := s.heard.Load()
	if ss := s.cur.Load(); ss != nil {
		if t := ss.member.LastContact(); !t.IsZero() {
			last = t.UnixNano()
			s.heard.Store(last)
		}
	}
	if last == 0 {
		return -1
	}
	return max(0, time.Since(time.Unix(0, last)))
}

// good feeds the writer of the last-known-good file. Only what the replica
// proved goes into it.
type good struct {
	v *liveView

	mu    sync.Mutex
	epoch string // of the content that was given last: indexes of two epochs do not compare
}

func (g *good) Next(ctx context.Context, after uint64) (*lkg.Content, error) {
	for {
		snap := g.v.Load()
		if snap.Source == view.SourceReplica {
			g.mu.Lock()
			newer := snap.Index > after || snap.Epoch != g.epoch
			if newer {
				g.epoch = snap.Epoch
			}
			g.mu.Unlock()
			if newer {
				return content(snap), nil
			}
		}
		select {
		case <-snap.Changed():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func content(snap *view.Snapshot[*localapi.Document]) *lkg.Content {
	c := &lkg.Content{Epoch: snap.Epoch, Index: snap.Index, GeneratedAt: time.Now()}
	c.Records = make([]*conf.Record, 0, snap.Len())
	snap.Range(func(e *entry) bool {
		c.Records = append(c.Records, e.Record)
		return true
	})
	return c
}

// environment reads the env secrets of services. It is called once a revision.
type environment struct {
	lookup  func(string) (string, bool)
	schemas *schema.Cache
	warn    func(msg string, args ...any)
}

func (e environment) secrets(service string, rec *conf.Record) map[string]any {
	// A secret of the environment names its source, so most schemas need not be
	// compiled for this: compiling is nearly all of a start from the
	// last-known-good file. (The stored form is canonical, its names are plain.)
	if !bytes.Contains(rec.Schema, []byte(`"x-secret-source"`)) {
		return nil
	}
	s, err := e.schemas.Get(service, rec.Schema)
	if err != nil {
		e.warn("schema of a stored service does not compile: its secrets are not served", "service", service, "err", err)
		return nil
	}
	var out map[string]any
	for _, f := range s.Fields() {
		if !f.IsSecret || f.SecretSource == nil || *f.SecretSource != conf.SourceEnv {
			continue
		}
		text, ok := e.lookup(f.Env)
		if !ok {
			continue
		}
		v, err := schema.ParseText(f, text)
		if err != nil { // the text is a secret: name the variable only
			e.warn("an environment secret does not fit its field: it is not served", "service", service, "key", f.Key, "variable", f.Env)
			continue
		}
		if out == nil {
			out = map[string]any{}
		}
		out[f.Key] = v
	}
	return out
}

// defaults are documents of the schema directory alone: the last thing to serve
// when neither the replica nor the last-known-good file can be read.
func (s *supervisor) serveDefaults() {
	if s.view.Load().Source != "" {
		return
	}
	raw, err := readSchemas(s.o.SchemaDir)
	if err != nil || len(raw) == 0 {
		return
	}
	var recs []*conf.Record
	for _, name := range conf.SortedKeys(raw) {
		r, err := defaultRecord(s.schemas, name, raw[name])
		if err != nil {
			s.log.Warn("no defaults for a service", "service", name, "err", err)
			continue
		}
		recs = append(recs, r)
	}
	s.log.Error("serving the schemas' defaults: neither the database nor the last-known-good file can be read", "services", len(recs))
	s.view.Reset(view.SourceDefault, "", 0, recs)
}
