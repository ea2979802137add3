package agent

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// explainer tells where values come from.
type explainer struct {
	secrets
	records records
	s       *supervisor
	turns   chan struct{} // few at a time: each asks the history about every stored value
}

func newExplainer(known secrets, v *liveView, s *supervisor) *explainer {
	return &explainer{secrets: known, records: records{v}, s: s, turns: make(chan struct{}, 2)}
}

// Explain is what the agent knows of each field of a service. Values of secrets
// are masked unless open is set.
func (x *explainer) Explain(ctx context.Context, service string, open bool) (conf.Explanation, error) {
	select {
	case x.turns <- struct{}{}:
		defer func() { <-x.turns }()
	case <-ctx.Done():
		return conf.Explanation{}, ctx.Err()
	}
	rec := x.records.Record(service)
	switch {
	case rec == nil && x.records.v.Load().Source == "":
		return conf.Explanation{}, x.s.down()
	case !rec.Exists():
		return conf.Explanation{}, conf.Errorf(conf.CodeNotFound, "service %q has no configuration", service).WithHint("GET /api/config/services lists them")
	}
	sch, err := x.schemas.Get(service, rec.Schema)
	if err != nil {
		return conf.Explanation{}, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", service, err)
	}
	values, err := conf.ParseObject(rec.Values, conf.MaxDocument)
	if err != nil {
		return conf.Explanation{}, conf.Errorf(conf.CodeCorrupt, "stored values of %s: %w", service, err)
	}
	doc, err := conf.ParseObject(rec.Config, conf.MaxDocument)
	if err != nil {
		return conf.Explanation{}, conf.Errorf(conf.CodeCorrupt, "document of %s: %w", service, err)
	}
	out := conf.Explanation{Service: service, Version: rec.Version, Epoch: rec.Epoch, Fields: []conf.Explained{}}
	known := map[string]bool{}
	for _, f := range sch.Fields() {
		known[f.Key] = true
		for p := f.Key; strings.Contains(p, "."); {
			p = p[:strings.LastIndexByte(p, '.')]
			known[p] = true
		}
		out.Fields = append(out.Fields, x.field(ctx, rec, f, values, doc, open))
	}
	for _, key := range conf.SortedKeys(values) { // what the schema lets through without naming it
		if !known[key] && conf.CheckKey(key) == nil {
			l := x.stored(ctx, rec, key, values[key])
			out.Fields = append(out.Fields, conf.Explained{Key: key, Type: conf.TypeString, Winner: &l, Shadows: []conf.Layer{}})
		}
	}
	return out, nil
}

// field collects the layers of one field, strongest first.
func (x *explainer) field(ctx context.Context, rec *conf.Record, f conf.Field, values, doc map[string]any, open bool) conf.Explained {
	var layers []conf.Layer
	if f.IsSecret {
		show := func(v any) json.RawMessage {
			if !open {
				return shown(conf.Masked)
			}
			return shown(v)
		}
		if v, ok := x.value(rec.Service, f); ok {
			layers = append(layers, conf.Layer{Source: conf.SourceEnv, Env: f.Env, Value: show(v)})
		}
		for _, sealed := range rec.Secrets {
			if sealed.Key != f.Key {
				continue
			}
			l := x.since(ctx, rec, f.Key)
			l.Source, l.KeyID, l.UpdatedAt, l.Value = conf.SourceDatabase, sealed.KeyID, sealed.UpdatedAt, shown(conf.Masked)
			if open {
				if v, err := x.open(rec, sealed); err == nil {
					l.Value = shown(v)
				}
			}
			layers = append(layers, l)
		}
	} else {
		if v, ok := conf.Lookup(values, f.Key); ok {
			layers = append(layers, x.stored(ctx, rec, f.Key, v))
		}
		// The default of a member counts for nothing while the object around it is absent.
		if _, served := conf.Lookup(doc, f.Key); len(f.Default) > 0 && (served || len(layers) > 0) {
			layers = append(layers, conf.Layer{Source: conf.SourceDefault, Value: f.Default})
		}
	}
	e := conf.Explained{Key: f.Key, Type: f.Type, Secret: f.IsSecret, Shadows: []conf.Layer{}}
	if len(layers) > 0 {
		e.Winner, e.Shadows = &layers[0], append(e.Shadows, layers[1:]...)
	}
	return e
}

func (x *explainer) stored(ctx context.Context, rec *conf.Record, key string, v any) conf.Layer {
	l := x.since(ctx, rec, key)
	l.Source, l.Value = conf.SourceDatabase, shown(v)
	return l
}

// since tells which change a stored value is from. Without a replica nobody knows.
func (x *explainer) since(ctx context.Context, rec *conf.Record, key string) conf.Layer {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	page, err := x.s.History(ctx, conf.HistoryFilter{Service: rec.Service, Key: key, Limit: 1})
	if err != nil || len(page.Results) == 0 {
		return conf.Layer{}
	}
	h := page.Results[0]
	return conf.Layer{Version: h.Version, UpdatedAt: h.ChangedAt, UpdatedBy: h.ChangedBy}
}

// shown is the canonical form of a value that was parsed from JSON.
func shown(v any) json.RawMessage {
	b, err := seal.Canonical(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// Secrets describes the secrets of a service: those that its schema has, and stored
// ones that it does not have any more.
func (x *explainer) Secrets(_ context.Context, service string) ([]conf.SecretInfo, error) {
	rec := x.records.Record(service)
	if rec == nil || rec.Schema == nil {
		if x.records.v.Load().Source == "" {
			return nil, x.s.down()
		}
		return nil, conf.Errorf(conf.CodeNotFound, "service %q has no schema", service).
			WithHint("put its JSON Schema first: holdfast schema put %s FILE", service)
	}
	sch, err := x.schemas.Get(service, rec.Schema)
	if err != nil {
		return nil, conf.Errorf(conf.CodeSchemaMismatch, "schema of %s: %w", service, err)
	}
	stored := map[string]conf.SealedSecret{}
	for _, s := range rec.Secrets {
		stored[s.Key] = s
	}
	out := []conf.SecretInfo{}
	for _, f := range sch.Fields() {
		if !f.IsSecret {
			continue
		}
		i := conf.SecretInfo{Key: f.Key, Source: *f.SecretSource}
		if i.Source == conf.SourceEnv {
			i.Env = f.Env
			_, i.Set = x.value(service, f)
		}
		if s, ok := stored[f.Key]; ok {
			describe(&i, s)
			delete(stored, f.Key)
		}
		out = append(out, i)
	}
	for _, key := range conf.SortedKeys(stored) {
		i := conf.SecretInfo{Key: key, Source: conf.SourceDatabase, Unused: true}
		describe(&i, stored[key])
		out = append(out, i)
	}
	return out, nil
}

func describe(i *conf.SecretInfo, s conf.SealedSecret) {
	i.Set, i.KeyID, i.CreatedAt, i.UpdatedAt = true, s.KeyID, s.CreatedAt, s.UpdatedAt
	if t, err := conf.ParseTime(s.UpdatedAt); err == nil {
		age := int64(max(0, time.Since(t)) / time.Second)
		i.Age = &age
	}
}

// Reveal is admin.Secrets: the editor of the leader writes down who asks.
func (x *explainer) Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error) {
	return x.s.editor.Reveal(ctx, who, service, key, reason)
}
