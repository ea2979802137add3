package edit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// ImportRecords writes verified records of a last-known-good file to the empty store
// of a new epoch: schemas and stable values, each service at version 1 with a new signature.
// A service whose values are invalid under its own schema gets the defaults, and is
// named in dropped. Secrets are resealed for the epoch; those that cannot be opened
// are named in unopened, as service/key.
func (e *Editor) ImportRecords(ctx context.Context, who conf.Principal, recs []*conf.Record, reason string) (dropped, unopened []string, err error) {
	now := e.o.Now()
	ed := newEdit(e, who, requestID(who, ""), "rebuild", reason, now)
	for _, r := range recs {
		if r.Deleted || r.Schema == nil {
			continue
		}
		fresh := &conf.Record{Service: r.Service}
		ed.Schemas = append(ed.Schemas, command.Schema{Service: r.Service, Schema: r.Schema})
		if !r.Exists() {
			continue
		}
		values, err := storedValues(r)
		if err != nil {
			return nil, nil, err
		}
		u, err := e.prepareEarlier(fresh, r.Schema, values, now)
		if err != nil {
			dropped = append(dropped, r.Service)
			if u, err = e.prepareEarlier(fresh, r.Schema, map[string]any{}, now); err != nil {
				continue
			}
		}
		u.UpdatedAt, u.UpdatedBy = r.UpdatedAt, r.UpdatedBy
		ed.Updates = append(ed.Updates, u)
		sealed, missing, err := Reseal(e.o.Sealer, r, ed.Epoch)
		if err != nil {
			return nil, nil, err
		}
		ed.Secrets, unopened = append(ed.Secrets, sealed...), append(unopened, missing...)
	}
	if len(ed.Schemas) == 0 {
		return nil, nil, nil
	}
	return dropped, unopened, e.commit(ctx, ed, "", "")
}

// prepareEarlier is prepare for values from before a schema change: it drops those
// that are secrets under the schema.
func (e *Editor) prepareEarlier(cur *conf.Record, raw json.RawMessage, values map[string]any, now time.Time) (command.Update, error) {
	s, err := storedSchema(e, cur, raw)
	if err != nil {
		return command.Update{}, err
	}
	values, _ = s.SplitSecrets(values)
	return e.prepare(cur, s, values, now)
}

// Reseal reseals the secrets of a record for another epoch, for the edit that writes
// the record there. Secrets that cannot be opened are named in unopened, as service/key.
func Reseal(sealer Sealer, r *conf.Record, epoch string) (out []command.Secret, unopened []string, err error) {
	for _, s := range r.Secrets {
		if sealer == nil {
			return nil, nil, noSealerError()
		}
		plain, err := sealer.Open(r.Epoch, r.Service, s)
		if err != nil {
			unopened = append(unopened, r.Service+"/"+s.Key)
			continue
		}
		c := command.Secret{Service: r.Service, Key: s.Key, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt}
		if c.EncryptedValue, c.KeyID, err = sealer.Seal(epoch, r.Service, s.Key, plain); err != nil {
			return nil, nil, err
		}
		out = append(out, c)
	}
	return out, unopened, nil
}
