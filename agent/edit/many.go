package edit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// PutSchemas stores the schemas of one or more services in one edit. A service
// whose effective document changes with its schema (a new default) gets a new
// version; one that is new gets its first when its defaults alone are valid.
// Stored values that the new schema refuses make the whole edit fail.
// The outcomes are in the order of the services' names.
func (e *Editor) PutSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, reason, key string) ([]conf.Outcome, error) {
	if err := e.admit(who, reason, false); err != nil {
		return nil, err
	}
	names := conf.SortedKeys(schemas)
	canonical := make(map[string]json.RawMessage, len(schemas))
	for _, n := range names {
		if err := conf.CheckService(n); err != nil {
			return nil, err
		}
		if _, err := conf.ParseObject(schemas[n], conf.MaxSchema); err != nil {
			return nil, err
		}
		c, err := seal.CanonicalJSON(schemas[n])
		if err != nil {
			return nil, err
		}
		if _, err := e.o.Schemas.Get(n, c); err != nil {
			return nil, err
		}
		canonical[n] = c
	}
	unlock, err := e.locks.lock(ctx, names...)
	if err != nil {
		return nil, err
	}
	defer unlock()

	now := e.o.Now()
	ed := e.edit(who, requestID(who, key), "schema", reason, now)
	var outs []conf.Outcome
	var touched []string
	for _, n := range names {
		cur := e.o.Records.Record(n)
		if cur == nil {
			cur = &conf.Record{Service: n}
		}
		out := conf.Outcome{Service: n, Version: cur.Version, Config: cur.Config}
		if string(cur.Schema) != string(canonical[n]) {
			out.Changed = true
			touched = append(touched, n)
			ed.Schemas = append(ed.Schemas, command.Schema{Service: n, Schema: canonical[n]})
			u, secrets, needed, err := e.underSchema(cur, canonical[n], now)
			if err != nil {
				return nil, err
			}
			if needed {
				ed.Updates = append(ed.Updates, u)
				sealed, err := e.seal(ed.Epoch, n, secrets)
				if err != nil {
					return nil, err
				}
				ed.Secrets = append(ed.Secrets, sealed...)
				out.Version, out.Config = u.Version, u.Config
			}
		}
		outs = append(outs, out)
	}
	if len(ed.Schemas) == 0 {
		return outs, e.o.Confirm(ctx)
	}
	ed.Audit = e.audit(ed, touched...)
	return outs, e.propose(ctx, ed)
}

// underSchema computes what a service becomes under a new schema.
func (e *Editor) underSchema(cur *conf.Record, rawSchema json.RawMessage, now time.Time) (u command.Update, secrets []newSecret, needed bool, err error) {
	if cur.Deleted {
		return u, nil, false, nil
	}
	values, err := storedValues(cur)
	if err != nil {
		return u, nil, false, err
	}
	if secrets, err = e.becomeSecret(cur, rawSchema, values); err != nil {
		return u, nil, false, err
	}
	u, err = e.prepareOld(cur, rawSchema, values, now)
	if err == nil {
		err = e.stillFit(cur, rawSchema)
	}
	if err != nil {
		if cur.Version == 0 && conf.CodeOf(err) == conf.CodeInvalid {
			return u, nil, false, nil // required fields without a default: the first PUT sets them
		}
		return u, nil, false, err
	}
	return u, secrets, len(secrets) > 0 || !cur.Exists() || string(u.Config) != string(cur.Config), nil
}

// SaveProfile stores a named set of values, of which in has the name, the description and
// the values by service. With nil values it takes the stored ones of the services named in
// only, or of all when only is empty.
func (e *Editor) SaveProfile(ctx context.Context, who conf.Principal, in conf.Profile, only []string, reason, key string) (conf.Profile, error) {
	if err := e.admit(who, reason, false); err != nil {
		return conf.Profile{}, err
	}
	if err := conf.CheckProfile(in.Name); err != nil {
		return conf.Profile{}, err
	}
	if len(in.Description) > conf.MaxReason {
		return conf.Profile{}, conf.Errorf(conf.CodeInvalid, "the description has %d bytes, over the limit of %d", len(in.Description), conf.MaxReason)
	}
	now := e.o.Now()
	p := conf.Profile{Name: in.Name, Description: in.Description, UpdatedAt: conf.FormatTime(now), UpdatedBy: who.Name}
	var err error
	if in.Services == nil {
		p.Services, err = e.present(only)
	} else {
		p.Services, err = e.checked(in.Services, now)
	}
	if err != nil {
		return conf.Profile{}, err
	}
	ed := e.edit(who, requestID(who, key), "profile-save", reason, now)
	ed.Profiles = []command.Profile{{Name: in.Name, Description: in.Description, Services: p.Services}}
	ed.Audit = e.audit(ed, "")
	return p, e.propose(ctx, ed)
}

func (e *Editor) present(only []string) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if len(only) == 0 {
		for _, r := range e.o.Records.Services() {
			if r.Exists() {
				out[r.Service] = r.Values
			}
		}
		return out, nil
	}
	for _, n := range only {
		r := e.o.Records.Record(n)
		if !r.Exists() {
			return nil, conf.Errorf(conf.CodeNotFound, "service %q has no configuration to save", n)
		}
		out[n] = r.Values
	}
	return out, nil
}

func (e *Editor) checked(services map[string]json.RawMessage, now time.Time) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, n := range conf.SortedKeys(services) {
		cur := e.o.Records.Record(n)
		if err := expect(cur, conf.Draft{Service: n, Op: conf.OpPut}); err != nil {
			return nil, err
		}
		values, err := conf.ParseObject(services[n], conf.MaxDocument)
		if err != nil {
			return nil, err
		}
		u, err := e.prepare(cur, cur.Schema, values, now)
		if err != nil {
			return nil, err
		}
		out[n] = u.Values
	}
	return out, nil
}

// ActivateProfile puts the values of a profile to all its services, all or
// none. Services that have these values already keep their version.
func (e *Editor) ActivateProfile(ctx context.Context, who conf.Principal, name, reason, key string) ([]conf.Outcome, error) {
	if err := e.admit(who, reason, false); err != nil {
		return nil, err
	}
	p, err := e.o.Archive.Profile(ctx, name)
	if err != nil {
		return nil, err
	}
	names := conf.SortedKeys(p.Services)
	unlock, err := e.locks.lock(ctx, names...)
	if err != nil {
		return nil, err
	}
	defer unlock()

	now := e.o.Now()
	ed := e.edit(who, requestID(who, key), "profile-activate", reason, now)
	if ed.Reason == "" {
		ed.Reason = "profile " + name
	}
	var outs []conf.Outcome
	var touched []string
	for _, n := range names {
		cur := e.o.Records.Record(n)
		if err := expect(cur, conf.Draft{Service: n, Op: conf.OpPut}); err != nil {
			return nil, err
		}
		values, err := conf.ParseObject(p.Services[n], conf.MaxDocument)
		if err != nil {
			return nil, conf.Errorf(conf.CodeCorrupt, "profile %s, service %s: %w", name, n, err)
		}
		u, err := e.prepareOld(cur, cur.Schema, values, now)
		if err != nil {
			return nil, err
		}
		out := conf.Outcome{Service: n, Version: cur.Version, Config: u.Config}
		if !cur.Exists() || string(u.Values) != string(cur.Values) || string(u.Config) != string(cur.Config) {
			ed.Updates = append(ed.Updates, u)
			out.Version, out.Changed = u.Version, true
			touched = append(touched, n)
		}
		outs = append(outs, out)
	}
	if len(ed.Updates) == 0 {
		return outs, e.o.Confirm(ctx)
	}
	ed.Audit = e.audit(ed, touched...)
	return outs, e.propose(ctx, ed)
}

// DeleteProfile removes a profile; the services keep their values.
func (e *Editor) DeleteProfile(ctx context.Context, who conf.Principal, name, reason, key string) error {
	if err := e.admit(who, reason, false); err != nil {
		return err
	}
	if _, err := e.o.Archive.Profile(ctx, name); err != nil {
		return err
	}
	ed := e.edit(who, requestID(who, key), "profile-delete", reason, e.o.Now())
	ed.ProfileDeletes = []string{name}
	ed.Audit = e.audit(ed, "")
	return e.propose(ctx, ed)
}

// Refill puts what a last-known-good file proves into an empty store of a new
// epoch: schemas and values, each service at version 1, signed anew. Services
// whose values no longer pass their own schema are left at its defaults and
// named in dropped. Their secrets come along, sealed anew for the epoch; those
// that do not open any more are named in lost, as service/key.
func (e *Editor) Refill(ctx context.Context, who conf.Principal, recs []*conf.Record, reason string) (dropped, lost []string, err error) {
	now := e.o.Now()
	ed := e.edit(who, requestID(who, ""), "rebuild", reason, now)
	var touched []string
	for _, r := range recs {
		if r.Deleted || r.Schema == nil {
			continue
		}
		fresh := &conf.Record{Service: r.Service}
		ed.Schemas = append(ed.Schemas, command.Schema{Service: r.Service, Schema: r.Schema})
		touched = append(touched, r.Service)
		if !r.Exists() {
			continue
		}
		values, err := storedValues(r)
		if err != nil {
			return nil, nil, err
		}
		u, err := e.prepareOld(fresh, r.Schema, values, now)
		if err != nil {
			dropped = append(dropped, r.Service)
			if u, err = e.prepareOld(fresh, r.Schema, map[string]any{}, now); err != nil {
				continue
			}
		}
		u.UpdatedAt, u.UpdatedBy = r.UpdatedAt, r.UpdatedBy
		ed.Updates = append(ed.Updates, u)
		sealed, gone, err := Reseal(e.o.Vault, r, ed.Epoch)
		if err != nil {
			return nil, nil, err
		}
		ed.Secrets, lost = append(ed.Secrets, sealed...), append(lost, gone...)
	}
	if len(ed.Schemas) == 0 {
		return nil, nil, nil
	}
	ed.Audit = e.audit(ed, touched...)
	return dropped, lost, e.propose(ctx, ed)
}
