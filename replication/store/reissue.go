package store

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Places in a row of service_configs.
const (
	configsVersion = 2
	configsEpoch   = 3
	configsIssued  = 8
	configsSigned  = 9
	configsKey     = 10
)

const sqlReissue = "UPDATE service_configs SET issued_at = ?, signature = ?, key_id = ?, digest = ? WHERE service = ?"

// reissue replaces the signatures of the services that are still at the version
// that was signed and that nobody signed later. It names them. What made
// the version (config_versions, history, updated_at, idx) stays as it was.
func (t *tx) reissue(c *command.Reissue) ([]string, error) {
	if t.st.epoch == "" || c.Epoch != t.st.epoch {
		return nil, refuse(conf.CodeConflict, "the signatures were made for the epoch %q, the store has %q", c.Epoch, t.st.epoch)
	}
	items := make(map[string]int, len(c.Items))
	for i := range c.Items {
		if _, twice := items[c.Items[i].Service]; twice {
			return nil, refuse(conf.CodeInvalid, "%s is signed twice in one entry", c.Items[i].Service)
		}
		items[c.Items[i].Service] = i
	}
	type change struct {
		was, is [sha256.Size]byte // digests of the row
		rec     *conf.Record
	}
	var changes []change
	look := func(vals []any, d [sha256.Size]byte) error {
		i, ok := items[textOf(vals[0])]
		if !ok {
			return nil
		}
		it := &c.Items[i]
		if uintOf(vals[configsVersion]) != it.Version || textOf(vals[configsEpoch]) != c.Epoch || textOf(vals[configsIssued]) >= c.Issued(i) {
			return nil
		}
		vals[configsIssued], vals[configsSigned], vals[configsKey] = c.Issued(i), it.Signature, c.KeyID
		is, err := t.dig.row(tableConfigs.name, vals)
		if err != nil {
			return err
		}
		rec, err := recordOf(&row{vals: vals})
		changes = append(changes, change{d, is, rec})
		return err
	}
	// A row found by its key costs three times one that is read in passing.
	if 3*len(items) > int(t.st.services) {
		if err := eachRow(t.ctx, t.w, tableConfigs, t.dig, look); err != nil {
			return nil, err
		}
	} else {
		for i := range c.Items {
			r, err := readRow(t.ctx, t.w, t.dig, tableConfigs, c.Items[i].Service)
			if err != nil {
				return nil, err
			}
			if r == nil {
				continue
			}
			if err := look(r.vals, r.digest); err != nil {
				return nil, err
			}
		}
	}
	fresh := make(map[string]*conf.Record, len(changes))
	for i := range changes {
		ch := &changes[i]
		if err := t.w.exec(t.ctx, sqlReissue, ch.rec.IssuedAt, ch.rec.Signature, ch.rec.KeyID, ch.is[:], ch.rec.Service); err != nil {
			return nil, err
		}
		t.st.digest.sub(ch.was)
		t.st.digest.add(ch.is)
		t.wrote = true
		fresh[ch.rec.Service] = ch.rec
	}
	if err := t.complete(fresh); err != nil {
		return nil, err
	}
	for i := range changes {
		ch := &changes[i]
		t.setHead(ch.rec.Service, &head{rec: ch.rec, digest: ch.is, stored: true})
	}
	return conf.SortedKeys(fresh), nil
}

// complete adds what of a record stands in other tables than service_configs.
func (t *tx) complete(recs map[string]*conf.Record) error {
	if 3*len(recs) > int(t.st.services) {
		secrets, err := allSecrets(t.ctx, t.w, t.dig)
		if err != nil {
			return err
		}
		for service, r := range recs {
			r.Secrets = secrets[service]
		}
		return eachRow(t.ctx, t.w, tableSchemas, t.dig, func(vals []any, _ [sha256.Size]byte) error {
			if r := recs[textOf(vals[0])]; r != nil {
				r.Schema = json.RawMessage(textOf(vals[1]))
			}
			return nil
		})
	}
	for _, service := range conf.SortedKeys(recs) {
		r, err := readRow(t.ctx, t.w, t.dig, tableSchemas, service)
		if err != nil {
			return err
		}
		if r != nil {
			recs[service].Schema = json.RawMessage(r.text(1))
		}
		if recs[service].Secrets, err = secretsOf(t.ctx, t.w, t.dig, service); err != nil {
			return err
		}
	}
	return nil
}
