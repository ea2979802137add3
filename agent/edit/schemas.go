package edit

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
)

// newSchema is a schema that a draft stores; nil for none.
type newSchema struct {
	raw      json.RawMessage // RFC 8785
	compiled *schema.Schema
}

// replaces reports whether the schema differs from the stored one.
func (ns *newSchema) replaces(cur *conf.Record) bool {
	return ns != nil && (cur == nil || string(ns.raw) != string(cur.Schema))
}

// admit compiles a schema that is about to be stored. A dry run leaves no trace of it.
func admit(cache *schema.Cache, service string, raw []byte, dryRun bool) (*newSchema, error) {
	if err := conf.CheckService(service); err != nil {
		return nil, err
	}
	if _, err := conf.ParseSchema(raw); err != nil {
		return nil, err
	}
	c, err := dialect.Canonical(raw)
	if err != nil {
		return nil, err
	}
	compile := cache.Admit
	if dryRun {
		compile = cache.Check
	}
	s, err := compile(service, c)
	if err != nil {
		return nil, err
	}
	return &newSchema{c, s}, nil
}

// schemaOf returns the schema that a draft brings along with its values.
func schemaOf(cache *schema.Cache, d conf.Draft) (*newSchema, error) {
	switch {
	case d.Schema == nil:
		return nil, nil
	case d.Op != conf.OpPut:
		return nil, conf.Errorf(conf.CodeUsage, "a schema goes with whole values, not with the operation %q", d.Op).
			WithHint("put the schema and all values that are to be stored")
	}
	return admit(cache, d.Service, d.Schema, d.DryRun)
}

// PutSchemas stores the schemas of one or more services in one edit. A service
// whose effective document changes with its schema (a new default) gets a new
// version. A new service gets its first version when its defaults alone are valid.
// The whole edit fails when stored values are invalid under a new schema.
// The outcomes are sorted by service.
func (e *Editor) PutSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, reason, key string) ([]conf.Outcome, error) {
	return e.putSchemas(ctx, who, schemas, conf.Draft{Reason: reason}, requestID(who, key))
}

// putSchemas stores schemas, with what d says beside them.
func (e *Editor) putSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, d conf.Draft, id string) ([]conf.Outcome, error) {
	if err := e.authorize(who, d.Reason, d.DryRun); err != nil {
		return nil, err
	}
	names := conf.SortedKeys(schemas)
	admitted := make([]*newSchema, len(names))
	err := parallel(len(names), func(i int) (err error) {
		admitted[i], err = admit(e.o.Schemas, names[i], schemas[names[i]], d.DryRun)
		return err
	})
	if err != nil {
		return nil, err
	}
	unlock, err := e.locks.lock(ctx, names...)
	if err != nil {
		return nil, err
	}
	defer unlock()

	now := e.o.Now()
	ed := newEdit(e, who, id, command.ActionSchema, d.Reason, now)
	profiles := sync.OnceValues(func() ([]conf.Profile, error) { return e.o.Archive.Profiles(ctx) })
	outs, parts := make([]conf.Outcome, len(names)), make([]command.Edit, len(names))
	err = parallel(len(names), func(i int) error {
		n, out, part := names[i], &outs[i], &parts[i]
		cur := e.o.Records.Record(n)
		if cur == nil {
			cur = &conf.Record{Service: n}
		}
		*out = conf.Outcome{Service: n, Version: cur.Version, Config: cur.Config}
		ns := admitted[i]
		if !ns.replaces(cur) {
			return nil
		}
		if err := mayChange(ctx, e, cur, d.Rollout); err != nil {
			return err
		}
		out.Changed = true
		part.Schemas = []command.Schema{{Service: n, Schema: ns.raw}}
		u, secrets, needed, err := e.underSchema(cur, ns.compiled, now)
		if err != nil {
			return err
		}
		stored, err := profiles()
		if err != nil {
			return err
		}
		out.Stale = staleProfiles(stored, n, ns.compiled)
		// What replaces a rollout has a version that its agents can go on to.
		part.Replace = running(cur) != nil
		if needed || part.Replace {
			part.Updates = []command.Update{u}
			part.Secrets, err = e.seal(ed.Epoch, n, secrets)
			out.Version, out.Config = u.Version, u.Config
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range parts {
		ed.Schemas, ed.Updates, ed.Secrets = append(ed.Schemas, parts[i].Schemas...), append(ed.Updates, parts[i].Updates...), append(ed.Secrets, parts[i].Secrets...)
		ed.Replace = ed.Replace || parts[i].Replace
	}
	if d.DryRun {
		return outs, nil
	}
	if len(ed.Schemas) == 0 {
		return outs, e.o.Confirm(ctx)
	}
	return outs, e.commit(ctx, ed, "", "")
}

// underSchema computes the update and the secrets of a service under a new schema.
// Without needed the service keeps its version.
func (e *Editor) underSchema(cur *conf.Record, s *schema.Schema, now time.Time) (u command.Update, secrets []newSecret, needed bool, err error) {
	if cur.Deleted {
		return u, nil, false, nil
	}
	values, err := storedValues(cur)
	if err != nil {
		return u, nil, false, err
	}
	if secrets, err = moveToSecrets(cur, s, values, nil); err != nil {
		return u, nil, false, bringValues(cur.Service, err)
	}
	values, _ = s.SplitSecrets(values)
	if u, err = e.prepare(cur, s, values, now); err == nil {
		err = e.checkStoredSecrets(cur, s, nil)
	}
	if err != nil {
		if cur.Version == 0 && conf.CodeOf(err) == conf.CodeInvalid {
			return u, nil, false, nil // a required field has no default: the first PUT sets it
		}
		return u, nil, false, bringValues(cur.Service, err)
	}
	return u, secrets, len(secrets) > 0 || !cur.Exists() || string(u.Config) != string(cur.Config), nil
}

// bringValues gives the error for stored values that a new schema rejects the way out.
func bringValues(service string, err error) error {
	e, ok := errors.AsType[*conf.Error](err)
	if !ok || e.Code != conf.CodeInvalid {
		return err
	}
	rejected := conf.Errorf(conf.CodeInvalid, "the new schema rejects what is stored, nothing was changed: %w", e).
		WithHint("store values that it accepts in the same change: holdfast schema put %s FILE --with VALUES.json", service)
	rejected.Details = e.Details
	return rejected
}

// underNewSchema computes the update and the secrets of a draft that brings the schema s
// along with the values doc. What is stored need not be valid under s: doc replaces it. A
// secret that doc does not name stays; so does a stored plain value that is one under s.
func (e *Editor) underNewSchema(cur *conf.Record, s *schema.Schema, doc map[string]any, now time.Time) (u command.Update, secrets []newSecret, err error) {
	values, secrets, err := splitSecrets(s, cur.Service, doc)
	if err != nil {
		return u, nil, err
	}
	stored, err := storedValues(cur)
	if err != nil {
		return u, nil, err
	}
	moved, err := moveToSecrets(cur, s, stored, secrets)
	if err != nil {
		return u, nil, err
	}
	if err := e.checkStoredSecrets(cur, s, secrets); err != nil {
		return u, nil, err
	}
	u, err = e.prepare(cur, s, values, now)
	return u, append(secrets, moved...), err
}
