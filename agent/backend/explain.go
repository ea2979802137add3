package backend

import (
	"context"
	"encoding/json"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// explaining is who asks for an explanation.
type explaining struct {
	open  bool // shows the values of secrets
	local bool // of what this agent serves, with the values that come from its environment
}

// Explain returns the layers of each field of a service, for the admin API. Values of
// secrets are masked unless open is set; so are those of variables: the environment of an
// agent does not leave its machine because a schema names it.
func (b *Backend) Explain(ctx context.Context, service string, open bool) (conf.Explanation, error) {
	return b.explanation(ctx, service, explaining{open: open})
}

// ExplainHere is Explain for the local API, whose documents have the values of variables.
func (b *Backend) ExplainHere(ctx context.Context, service string, open bool) (conf.Explanation, error) {
	return b.explanation(ctx, service, explaining{open: open, local: true})
}

func (b *Backend) explanation(ctx context.Context, service string, who explaining) (conf.Explanation, error) {
	select {
	case b.explain <- struct{}{}:
		defer func() { <-b.explain }()
	case <-ctx.Done():
		return conf.Explanation{}, ctx.Err()
	}
	rec := b.records.Record(service)
	if who.local {
		rec = documents.Records{View: b.o.Served}.Record(service)
	}
	if !rec.Exists() {
		missing := conf.Errorf(conf.CodeNotFound, "service %q has no configuration", service).WithHint("GET /api/config/services lists them")
		if rec == nil {
			return conf.Explanation{}, b.absent(service, missing)
		}
		return conf.Explanation{}, missing
	}
	sch, err := b.o.Schemas.Get(service, rec.Schema)
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
	env := b.o.Secrets.EnvValues(rec)
	known := map[string]bool{}
	for _, f := range sch.Fields() {
		known[conf.FieldPath(f)[0]] = true
		out.Fields = append(out.Fields, b.field(ctx, rec, f, values, doc, env, who))
	}
	for _, key := range conf.SortedKeys(values) { // keys that the schema allows without naming them
		if !known[key] && conf.CheckAnyKey(key) == nil {
			l := b.stored(ctx, rec, key, values[key])
			out.Fields = append(out.Fields, conf.Explained{Key: key, Type: conf.TypeString, Winner: &l, Shadows: []conf.Layer{}})
		}
	}
	return out, nil
}

// field collects the layers of one field, strongest first.
func (b *Backend) field(ctx context.Context, rec *conf.Record, f conf.Field, values, doc, env map[string]any, who explaining) conf.Explained {
	var layers []conf.Layer
	if f.IsSecret {
		show := func(v any) json.RawMessage {
			if !who.open {
				return shown(conf.Masked)
			}
			return shown(v)
		}
		if v, ok := b.o.Secrets.Value(rec.Service, f); ok {
			layers = append(layers, conf.Layer{Source: conf.SourceEnv, Env: f.Env, Value: show(v)})
		}
		for _, sealed := range rec.Secrets {
			if sealed.Key != f.Key {
				continue
			}
			l := b.since(ctx, rec, f.Key)
			l.Source, l.KeyID, l.UpdatedAt, l.Value = conf.SourceDatabase, sealed.KeyID, sealed.UpdatedAt, shown(conf.Masked)
			if who.open {
				if v, err := b.o.Secrets.Open(rec, sealed); err == nil {
					l.Value = shown(v)
				}
			}
			layers = append(layers, l)
		}
	} else {
		if v, ok := env[f.Key]; ok {
			l := conf.Layer{Source: conf.SourceEnv, Env: f.Env, Value: shown(conf.Masked)}
			if who.local {
				l.Value = shown(v)
			}
			layers = append(layers, l)
		}
		path := conf.FieldPath(f)
		if v, ok := path.Find(values); ok {
			layers = append(layers, b.stored(ctx, rec, f.Key, v))
		}
		// The default of a member has no effect while the object around it is absent.
		if _, served := path.Find(doc); len(f.Default) > 0 && (served || len(layers) > 0) {
			layers = append(layers, conf.Layer{Source: conf.SourceDefault, Value: f.Default})
		}
	}
	e := conf.Explained{Key: f.Key, Type: f.Type, Secret: f.IsSecret, Shadows: []conf.Layer{}}
	if len(layers) > 0 {
		e.Winner, e.Shadows = &layers[0], append(e.Shadows, layers[1:]...)
	}
	return e
}

func (b *Backend) stored(ctx context.Context, rec *conf.Record, key string, v any) conf.Layer {
	l := b.since(ctx, rec, key)
	l.Source, l.Value = conf.SourceDatabase, shown(v)
	return l
}

// since finds the change that a stored value is from; without a replica it is empty.
func (b *Backend) since(ctx context.Context, rec *conf.Record, key string) conf.Layer {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	page, err := b.History(ctx, conf.HistoryFilter{Service: rec.Service, Key: key, Limit: 1})
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
func (b *Backend) Secrets(_ context.Context, service string) ([]conf.SecretInfo, error) {
	rec := b.records.Record(service)
	if rec == nil || rec.Schema == nil {
		return nil, b.absent(service, conf.Errorf(conf.CodeNotFound, "service %q has no schema", service).
			WithHint("put its JSON Schema first: holdfast schema put %s FILE", service))
	}
	sch, err := b.o.Schemas.Get(service, rec.Schema)
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
			_, i.Set = b.o.Secrets.Value(service, f)
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

// Reveal returns the value of a secret. The editor of the leader records the caller.
func (b *Backend) Reveal(ctx context.Context, who conf.Principal, service, key, reason string) (json.RawMessage, error) {
	return b.o.Editor.Reveal(ctx, who, service, key, reason)
}
