package agent

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/view"
)

// source gives the local API its documents.
type source struct {
	v     *liveView
	age   func() time.Duration // since a leader was heard from; negative: never
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
	d := &described{snap, localapi.NewState(snap.Epoch, snap.Source, snap.Index, l.age())}
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
	// proven says whether all of a snapshot may be kept; nil: what comes from the replica.
	proven func(*snapshot) bool

	mu    sync.Mutex
	epoch string   // of the content that was given last: indexes of two epochs do not compare
	past  []string // epochs before it, the oldest first
}

func (g *good) Next(ctx context.Context, after uint64) (*lkg.Content, error) {
	for {
		snap := g.v.Load()
		if snap.Source == view.SourceReplica || g.proven != nil && g.proven(snap) {
			g.mu.Lock()
			newer := snap.Index > after || snap.Epoch != g.epoch
			if newer {
				g.enter(snap.Epoch)
			}
			past := g.past
			g.mu.Unlock()
			if newer {
				c := content(snap)
				c.Past = past
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

// enter notes the epoch of what is given now. One that was left is on the list for
// ever: a store or a message that brings it back is older than what was served.
func (g *good) enter(epoch string) {
	if g.epoch != "" && g.epoch != epoch && !slices.Contains(g.past, g.epoch) {
		g.past = append(slices.Clone(g.past), g.epoch)
	}
	g.epoch = epoch
}

func content(snap *snapshot) *lkg.Content {
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

// value is what the environment has for a field; not ok: nothing, or nothing that
// fits the field.
func (e environment) value(service string, f conf.Field) (v any, ok bool) {
	if f.SecretSource == nil || *f.SecretSource != conf.SourceEnv {
		return nil, false
	}
	text, ok := e.lookup(f.Env)
	if !ok {
		return nil, false
	}
	if ownSecret(f.Env) {
		e.warn("a schema asks for a key of this agent as the secret of a service: it is not served", "service", service, "key", f.Key, "variable", f.Env)
		return nil, false
	}
	v, err := schema.ParseText(f, text)
	if err != nil { // the text is a secret: name the variable only
		e.warn("an environment secret does not fit its field: it is not served", "service", service, "key", f.Key, "variable", f.Env)
		return nil, false
	}
	return v, true
}

// ownSecret says whether a variable holds what is the agent's own. A schema is written
// by whoever may change configuration, and must not get it out to a service.
func ownSecret(name string) bool {
	switch name {
	case "CONFIG_API_TOKEN", "CONFIG_JOIN_TOKEN", "CONFIG_MQTT_PASSWORD", "LITESTREAM_SECRET_ACCESS_KEY":
		return true
	}
	return keys.Own(name)
}

// secrets are the secret values that this agent can give to whoever proves itself.
// They are opened once a revision, and stay in memory.
type secrets struct {
	environment
	vault *keys.Vault
	log   *slog.Logger
	own   string // the service beside this agent
	lost  *lostSecrets
}

// of gives the values of a record's secret fields by dotted key: what the
// environment has, else what the store has and this agent can open.
func (s secrets) of(service string, rec *conf.Record) map[string]any {
	// Most services have no secrets, and their schemas need not be compiled for
	// this: compiling is nearly all of a start from the last-known-good file. (The
	// stored form is canonical, its names are plain.)
	if len(rec.Secrets) == 0 && !bytes.Contains(rec.Schema, []byte(`"x-secret-source"`)) {
		return nil
	}
	sch, err := s.schemas.Get(service, rec.Schema)
	if err != nil {
		s.warn("schema of a stored service does not compile: its secrets are not served", "service", service, "err", err)
		return nil
	}
	out := map[string]any{}
	var lost []lostSecret
	for _, sealed := range rec.Secrets {
		f, ok := sch.Field(sealed.Key)
		if !ok || !f.IsSecret {
			continue // unused: the schema has changed since
		}
		v, err := s.open(rec, sealed)
		if err != nil {
			// A sidecar holds the key of one service; under the same id as all others.
			if service == s.own || !s.vault.Narrow() {
				lost = append(lost, lostSecret{service, sealed.Key, sealed.KeyID, conf.CodeOf(err) == conf.CodeUnsupported})
			}
			continue
		}
		out[sealed.Key] = v
	}
	for _, f := range sch.Fields() {
		if f.IsSecret {
			if v, ok := s.value(service, f); ok {
				out[f.Key] = v
			}
		}
	}
	lost = slices.DeleteFunc(lost, func(l lostSecret) bool { _, ok := out[l.key]; return ok })
	if s.lost.note(rec, lost) {
		for _, l := range lost {
			why := "it is damaged"
			if l.noKey {
				why = "this agent does not hold the master key " + l.keyID
			}
			s.log.Error("a stored secret is not served", "service", service, "key", l.key, "why", why)
		}
	}
	return out
}

func (s secrets) open(rec *conf.Record, sealed conf.SealedSecret) (any, error) {
	plain, err := s.vault.Open(rec.Epoch, rec.Service, sealed)
	if err != nil {
		return nil, err
	}
	v, err := conf.ParseJSON(plain, edit.MaxSecret)
	if err != nil { // its text may hold a piece of the value
		return nil, conf.Errorf(conf.CodeCorrupt, "the secret %s of %s is no JSON", sealed.Key, rec.Service)
	}
	return v, nil
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
