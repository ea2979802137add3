package edit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// SaveProfile stores a named set of values: name, description and values by service
// are those of in. Without values it saves the stored ones of the services in only,
// or of all services when only is empty.
func (e *Editor) SaveProfile(ctx context.Context, who conf.Principal, in conf.Profile, only []string, reason, key string) (conf.Profile, error) {
	if err := e.authorize(who, reason, false); err != nil {
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
		p.Services, err = e.currentValues(only)
	} else {
		p.Services, err = e.validated(in.Services, now)
	}
	if err != nil {
		return conf.Profile{}, err
	}
	ed := e.edit(who, requestID(who, key), "profile-save", reason, now)
	ed.Profiles = []command.Profile{{Name: in.Name, Description: in.Description, Services: p.Services}}
	return p, e.commit(ctx, ed, "")
}

// currentValues returns the stored values of the services in only, or of all services.
func (e *Editor) currentValues(only []string) (map[string]json.RawMessage, error) {
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

// validated returns values by service in canonical form. Each service must accept its values.
func (e *Editor) validated(services map[string]json.RawMessage, now time.Time) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, n := range conf.SortedKeys(services) {
		cur := e.o.Records.Record(n)
		s, err := e.currentSchema(cur, n)
		if err != nil {
			return nil, err
		}
		values, err := conf.ParseObject(services[n], conf.MaxDocument)
		if err != nil {
			return nil, err
		}
		u, err := e.prepare(cur, s, values, now)
		if err != nil {
			return nil, err
		}
		out[n] = u.Values
	}
	return out, nil
}

// currentSchema compiles the schema of a service, which cur must have.
func (e *Editor) currentSchema(cur *conf.Record, service string) (*schema.Schema, error) {
	if err := expect(cur, conf.Draft{Service: service, Op: conf.OpPut}); err != nil {
		return nil, err
	}
	return e.schema(cur, cur.Schema)
}

// ActivateProfile writes the values of a profile to all its services in one edit.
// Services that have these values already keep their version.
func (e *Editor) ActivateProfile(ctx context.Context, who conf.Principal, name, reason, key string) ([]conf.Outcome, error) {
	if err := e.authorize(who, reason, false); err != nil {
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
	for _, n := range names {
		cur := e.o.Records.Record(n)
		s, err := e.currentSchema(cur, n)
		if err != nil {
			return nil, err
		}
		values, err := conf.ParseObject(p.Services[n], conf.MaxDocument)
		if err != nil {
			return nil, conf.Errorf(conf.CodeCorrupt, "profile %s, service %s: %w", name, n, err)
		}
		values, _ = s.SplitSecrets(values)
		u, err := e.prepare(cur, s, values, now)
		if err != nil {
			return nil, err
		}
		out := conf.Outcome{Service: n, Version: cur.Version, Config: u.Config}
		if !unchanged(cur, u) {
			ed.Updates = append(ed.Updates, u)
			out.Version, out.Changed = u.Version, true
		}
		outs = append(outs, out)
	}
	if len(ed.Updates) == 0 {
		return outs, e.o.Confirm(ctx)
	}
	return outs, e.commit(ctx, ed, "")
}

// DeleteProfile removes a profile; the services keep their values.
func (e *Editor) DeleteProfile(ctx context.Context, who conf.Principal, name, reason, key string) error {
	if err := e.authorize(who, reason, false); err != nil {
		return err
	}
	if _, err := e.o.Archive.Profile(ctx, name); err != nil {
		return err
	}
	ed := e.edit(who, requestID(who, key), "profile-delete", reason, e.o.Now())
	ed.ProfileDeletes = []string{name}
	return e.commit(ctx, ed, "")
}
