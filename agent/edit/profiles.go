package edit

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// SaveProfile stores a named set of values: name, description and values by service
// are those of in. Without values it saves the stored ones of the services in only,
// or of all services when only is empty.
func (e *Editor) SaveProfile(ctx context.Context, who conf.Principal, in conf.Profile, only []string, reason, key string) (conf.Profile, error) {
	if err := e.authorize(who, reason, false); err != nil {
		return conf.Profile{}, err
	}
	if err := checkProfile(in); err != nil {
		return conf.Profile{}, err
	}
	now := e.o.Now()
	p := conf.Profile{Name: in.Name, Description: in.Description, UpdatedAt: conf.FormatTime(now), UpdatedBy: who.Name}
	var err error
	if in.Services == nil {
		p.Services, err = currentValues(e, only)
	} else {
		p.Services, err = e.validated(in.Services, now)
	}
	if err != nil {
		return conf.Profile{}, err
	}
	ed := newEdit(e, who, requestID(who, key), "profile-save", reason, now)
	ed.Profiles = []command.Profile{{Name: in.Name, Description: in.Description, Services: p.Services}}
	return p, e.commit(ctx, ed, "", "")
}

// currentValues returns the stored values of the services in only, or of all services.
func currentValues(e *Editor, only []string) (map[string]json.RawMessage, error) {
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

// ImportProfile stores a profile with the values that it has, also those that a service
// does not accept today: they are listed, and activating the profile is what they stop.
// Without them an import would lose what the export had. Values of secrets, and of
// services without a schema, which may be secrets, are left out.
func (e *Editor) ImportProfile(ctx context.Context, who conf.Principal, in conf.Profile, reason, key string) (conf.Profile, []conf.StaleProfile, error) {
	if err := e.authorize(who, reason, false); err != nil {
		return conf.Profile{}, nil, err
	}
	if err := checkProfile(in); err != nil {
		return conf.Profile{}, nil, err
	}
	now := e.o.Now()
	p := conf.Profile{
		Name: in.Name, Description: in.Description, UpdatedAt: conf.FormatTime(now), UpdatedBy: who.Name,
		Services: map[string]json.RawMessage{},
	}
	var stale []conf.StaleProfile
	for _, n := range conf.SortedKeys(in.Services) {
		values, err := conf.ParseObject(in.Services[n], conf.MaxDocument)
		if err != nil {
			return conf.Profile{}, nil, err
		}
		s, err := e.currentSchema(e.o.Records.Record(n), n)
		if err != nil {
			stale = append(stale, conf.StaleProfile{Profile: in.Name, Service: n, Error: "left out: " + err.Error()})
			continue
		}
		if why := rejects(s, n, values); why != "" {
			stale = append(stale, conf.StaleProfile{Profile: in.Name, Service: n, Error: why})
		}
		values, _ = s.SplitSecrets(values)
		if p.Services[n], err = seal.Canonical(values); err != nil {
			return conf.Profile{}, nil, err
		}
	}
	ed := newEdit(e, who, requestID(who, key), command.ActionProfileSave, reason, now)
	ed.Profiles = []command.Profile{{Name: p.Name, Description: p.Description, Services: p.Services}}
	return p, stale, e.commit(ctx, ed, "", "")
}

// staleProfiles lists the profiles whose values of a service are invalid under s.
func staleProfiles(profiles []conf.Profile, service string, s *schema.Schema) (out []conf.StaleProfile) {
	for _, p := range profiles {
		raw, ok := p.Services[service]
		if !ok {
			continue
		}
		why := "its values are damaged"
		if values, err := conf.ParseObject(raw, conf.MaxDocument); err == nil {
			why = rejects(s, service, values)
		}
		if why != "" {
			out = append(out, conf.StaleProfile{Profile: p.Name, Service: service, Error: why})
		}
	}
	return out
}

// rejects returns why s does not accept stored values; "" when it does. Activating a
// profile leaves out what is a secret.
func rejects(s *schema.Schema, service string, values map[string]any) string {
	values, _ = s.SplitSecrets(values)
	if _, bad := s.Effective(values); len(bad) > 0 {
		return invalid(service, bad).Error()
	}
	return ""
}

func checkProfile(p conf.Profile) error {
	if err := conf.CheckProfile(p.Name); err != nil {
		return err
	}
	if len(p.Description) > conf.MaxReason {
		return conf.Errorf(conf.CodeInvalid, "the description has %d bytes, over the limit of %d", len(p.Description), conf.MaxReason)
	}
	return nil
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
	return storedSchema(e, cur, cur.Schema)
}

// ActivateProfile writes the values of a profile to all its services in one edit.
// Services that have these values already keep their version. rollout is that of a Draft.
func (e *Editor) ActivateProfile(ctx context.Context, who conf.Principal, name, reason, key, rollout string) ([]conf.Outcome, error) {
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
	ed := newEdit(e, who, requestID(who, key), "profile-activate", reason, now)
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
			return nil, staleProfile(name, err)
		}
		out := conf.Outcome{Service: n, Version: cur.Version, Config: u.Config}
		runs := running(cur) != nil
		if !unchanged(cur, u) || runs && rollout == conf.RolloutReplace {
			if err := mayChange(ctx, e, cur, rollout); err != nil {
				return nil, err
			}
			ed.Updates, ed.Replace = append(ed.Updates, u), ed.Replace || runs
			out.Version, out.Changed = u.Version, true
		}
		outs = append(outs, out)
	}
	if len(ed.Updates) == 0 {
		return outs, e.o.Confirm(ctx)
	}
	return outs, e.commit(ctx, ed, "", rollout)
}

// staleProfile gives the error for a profile that a service does not accept any more the
// way out.
func staleProfile(name string, err error) error {
	e, ok := errors.AsType[*conf.Error](err)
	if !ok || e.Code != conf.CodeInvalid {
		return err
	}
	stale := conf.Errorf(conf.CodeInvalid, "the profile %s is stale, nothing was changed: %w", name, e).
		WithHint("set the values that it should have, and save it again: holdfast profile save %s", name)
	stale.Details = e.Details
	return stale
}

// DeleteProfile removes a profile; the services keep their values.
func (e *Editor) DeleteProfile(ctx context.Context, who conf.Principal, name, reason, key string) error {
	if err := e.authorize(who, reason, false); err != nil {
		return err
	}
	if _, err := e.o.Archive.Profile(ctx, name); err != nil {
		return err
	}
	ed := newEdit(e, who, requestID(who, key), "profile-delete", reason, e.o.Now())
	ed.ProfileDeletes = []string{name}
	return e.commit(ctx, ed, "", "")
}
