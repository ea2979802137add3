package apply

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

const sqlReissue = "UPDATE service_configs SET issued_at = ?, signature = ?, key_id = ?, digest = ? WHERE service = ?"

// reissue replaces the signatures of the services that are still at the signed version
// and have no later signature but one that the item replaces, and returns their names. What belongs to the version
// (config_versions, history, updated_at, idx) does not change.
func (t *tx) reissue(c *command.Reissue) ([]string, error) {
	if t.st.Epoch == "" || c.Epoch != t.st.Epoch {
		return nil, reject(conf.CodeConflict, "the signatures were made for the epoch %q, the store has %q", c.Epoch, t.st.Epoch)
	}
	items := make(map[string]int, len(c.Items))
	for i := range c.Items {
		if _, twice := items[c.Items[i].Service]; twice {
			return nil, reject(conf.CodeInvalid, "%s is signed twice in one entry", c.Items[i].Service)
		}
		items[c.Items[i].Service] = i
	}
	type signed struct {
		was, is [sha256.Size]byte // digests of the row
		rec     *conf.Record
	}
	var changes []signed
	check := func(r *tables.Row) error {
		vals := r.Vals
		i, ok := items[r.Text(0)]
		if !ok {
			return nil
		}
		it := &c.Items[i]
		if tables.UintOf(vals[tables.ConfigsVersion]) != it.Version || tables.TextOf(vals[tables.ConfigsEpoch]) != c.Epoch {
			return nil
		}
		if was := tables.TextOf(vals[tables.ConfigsIssued]); was >= c.Issued(i) && was != it.Replaces {
			return nil
		}
		version := it.VersionSignature
		if _, was, _ := strings.Cut(tables.TextOf(vals[tables.ConfigsSigned]), " "); version == "" && tables.TextOf(vals[tables.ConfigsKey]) == c.KeyID {
			version = was
		}
		vals[tables.ConfigsIssued], vals[tables.ConfigsSigned], vals[tables.ConfigsKey] = c.Issued(i), tables.Signatures(it.Signature, version), c.KeyID
		is, err := t.dig.Row(tables.Configs.Name, vals)
		if err != nil {
			return err
		}
		rec, err := tables.RecordOf(r)
		changes = append(changes, signed{r.Digest, is, rec})
		return err
	}
	// Reading a row by its key costs three times as much as in a scan.
	if 3*len(items) > int(t.st.ServiceCount) {
		if err := tables.Each(t.ctx, t.w, t.dig, tables.Configs, check); err != nil {
			return nil, err
		}
	} else {
		for i := range c.Items {
			r, err := t.read(tables.Configs, c.Items[i].Service)
			if err != nil {
				return nil, err
			}
			if r == nil {
				continue
			}
			if err := check(r); err != nil {
				return nil, err
			}
		}
	}
	touched := map[string]bool{}
	for i := range c.Items {
		if err := t.reissueStaged(c, &c.Items[i], touched); err != nil {
			return nil, err
		}
	}
	fresh := make(map[string]*conf.Record, len(changes))
	for i := range changes {
		ch := &changes[i]
		if err := t.w.Exec(t.ctx, sqlReissue, ch.rec.IssuedAt, tables.Signatures(ch.rec.Signature, ch.rec.VersionSignature), ch.rec.KeyID, ch.is[:], ch.rec.Service); err != nil {
			return nil, err
		}
		t.st.Digest.Sub(ch.was)
		t.st.Digest.Add(ch.is)
		t.wrote = true
		fresh[ch.rec.Service], touched[ch.rec.Service] = ch.rec, true
	}
	if err := t.complete(fresh); err != nil {
		return nil, err
	}
	for i := range changes {
		ch := &changes[i]
		t.setRecord(ch.rec.Service, &tables.StoredRecord{Record: ch.rec, Digest: ch.is, Stored: true})
	}
	return conf.SortedKeys(touched), nil
}

// reissueStaged renews the signatures of the versions that the item names beside the stable one.
func (t *tx) reissueStaged(c *command.Reissue, it *command.ReissueItem, touched map[string]bool) error {
	if len(it.Staged) == 0 {
		return nil
	}
	for _, role := range []string{tables.RoleCandidate, tables.RoleRevert, tables.RoleKept} {
		old, err := t.read(tables.StagedVersions, it.Service, role)
		if err != nil {
			return err
		}
		if old == nil {
			continue
		}
		_, v := tables.SignedOf(old)
		i := slices.IndexFunc(it.Staged, func(s command.StagedItem) bool { return s.Version == v.Version })
		if i < 0 || v.IssuedAt >= it.Staged[i].IssuedAt && v.IssuedAt != it.Staged[i].Replaces {
			continue
		}
		s := &it.Staged[i]
		if s.VersionSignature != "" || v.KeyID != c.KeyID {
			v.VersionSignature = s.VersionSignature
		}
		v.IssuedAt, v.Signature, v.KeyID = s.IssuedAt, s.Signature, c.KeyID
		if err := t.upsert(tables.StagedVersions, old, tables.SignedRow(it.Service, role, v)...); err != nil {
			return err
		}
		touched[it.Service] = true
	}
	return nil
}

// complete adds what other tables than service_configs have of the records.
func (t *tx) complete(recs map[string]*conf.Record) error {
	if 3*len(recs) > int(t.st.ServiceCount) {
		staged, err := tables.AllStaged(t.ctx, t.w, t.dig)
		if err != nil {
			return err
		}
		secrets, err := tables.AllSecrets(t.ctx, t.w, t.dig)
		if err != nil {
			return err
		}
		for service, r := range recs {
			r.Secrets = secrets[service]
			if err := staged.Add(r); err != nil {
				return err
			}
		}
		return tables.Each(t.ctx, t.w, t.dig, tables.Schemas, func(r *tables.Row) error {
			if rec := recs[r.Text(0)]; rec != nil {
				rec.Schema = json.RawMessage(r.Text(1))
			}
			return nil
		})
	}
	for _, service := range conf.SortedKeys(recs) {
		r, err := t.read(tables.Schemas, service)
		if err != nil {
			return err
		}
		if r != nil {
			recs[service].Schema = json.RawMessage(r.Text(1))
		}
		if recs[service].Secrets, err = tables.SecretsOf(t.ctx, t.w, t.dig, service); err != nil {
			return err
		}
		if err := tables.ReadStaged(t.ctx, t.w, t.dig, recs[service]); err != nil {
			return err
		}
	}
	return nil
}
