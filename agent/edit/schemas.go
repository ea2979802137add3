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
// version. A new service gets its first version when its defaults alone are valid.
// The whole edit fails when stored values are invalid under a new schema.
// The outcomes are sorted by service.
func (e *Editor) PutSchemas(ctx context.Context, who conf.Principal, schemas map[string][]byte, reason, key string) ([]conf.Outcome, error) {
	if err := e.authorize(who, reason, false); err != nil {
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
		if _, err := e.o.Schemas.Admit(n, c); err != nil {
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
	for _, n := range names {
		cur := e.o.Records.Record(n)
		if cur == nil {
			cur = &conf.Record{Service: n}
		}
		out := conf.Outcome{Service: n, Version: cur.Version, Config: cur.Config}
		if string(cur.Schema) != string(canonical[n]) {
			out.Changed = true
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
	return outs, e.commit(ctx, ed, "")
}

// underSchema computes the update and the secrets of a service under a new schema.
// Without needed the service keeps its version.
func (e *Editor) underSchema(cur *conf.Record, raw json.RawMessage, now time.Time) (u command.Update, secrets []newSecret, needed bool, err error) {
	if cur.Deleted {
		return u, nil, false, nil
	}
	values, err := storedValues(cur)
	if err != nil {
		return u, nil, false, err
	}
	s, err := e.schema(cur, raw)
	if err != nil {
		return u, nil, false, err
	}
	if secrets, err = moveToSecrets(cur, s, values); err != nil {
		return u, nil, false, err
	}
	values, _ = s.SplitSecrets(values)
	if u, err = e.prepare(cur, s, values, now); err == nil {
		err = e.checkStoredSecrets(cur, s)
	}
	if err != nil {
		if cur.Version == 0 && conf.CodeOf(err) == conf.CodeInvalid {
			err = nil // a required field has no default: the first PUT sets it
		}
		return u, nil, false, err
	}
	return u, secrets, len(secrets) > 0 || !cur.Exists() || string(u.Config) != string(cur.Config), nil
}
