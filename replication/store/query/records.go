package query

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Record reads one service: its document, or its tombstone, or (Version 0) only
// its schema. CodeNotFound when there is nothing.
func (s *Queries) Record(ctx context.Context, service string) (*conf.Record, error) {
	var rec *conf.Record
	err := s.read(ctx, "read "+service, func(q tables.Querier) error {
		h, err := tables.ReadStored(ctx, q, tables.NewDigester(), service)
		if err == nil && h.Record == nil {
			err = conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("list the services that exist: holdfast get")
		}
		if err == nil {
			rec = h.Record
		}
		return err
	})
	return rec, err
}

// Records calls fn with every service, tombstones and bare schemas too, all as
// of one moment. An error of fn ends it and is returned.
func (s *Queries) Records(ctx context.Context, fn func(*conf.Record) error) error {
	var stopped error
	give := func(rec *conf.Record) error {
		stopped = fn(rec)
		return stopped
	}
	err := s.read(ctx, "read the services", func(q tables.Querier) error {
		dig := tables.NewDigester()
		schemas := map[string]*tables.Row{}
		err := tables.Each(ctx, q, dig, tables.Schemas, func(r *tables.Row) error {
			schemas[r.Text(0)] = &tables.Row{Vals: slices.Clone(r.Vals), Digest: r.Digest}
			return nil
		})
		if err != nil {
			return err
		}
		secrets, err := tables.AllSecrets(ctx, q, dig)
		if err != nil {
			return err
		}
		err = tables.Each(ctx, q, dig, tables.Configs, func(r *tables.Row) error {
			rec, err := tables.RecordOf(r)
			if err != nil {
				return err
			}
			rec.Secrets = secrets[rec.Service]
			if sc := schemas[rec.Service]; sc != nil {
				rec.Schema = json.RawMessage(sc.Text(1))
				delete(schemas, rec.Service)
			}
			return give(rec)
		})
		if err != nil {
			return err
		}
		for _, service := range conf.SortedKeys(schemas) {
			if err := give(tables.BareRecord(schemas[service])); err != nil {
				return err
			}
		}
		return nil
	})
	if stopped != nil {
		return stopped
	}
	return err
}

// VersionValues reads the stored values that a service had at a version.
func (s *Queries) VersionValues(ctx context.Context, service string, version uint64) (json.RawMessage, error) {
	var values json.RawMessage
	err := s.read(ctx, "read a version of "+service, func(q tables.Querier) error {
		r, err := tables.Read(ctx, q, tables.NewDigester(), tables.Versions, service, int64(version)) //nolint:gosec // a stored version fits
		if err != nil {
			return err
		}
		if r != nil && r.Vals[12] == int64(0) {
			values = json.RawMessage(r.Text(2))
			return nil
		}
		var first, last sql.NullInt64
		err = q.QueryRowContext(ctx, "SELECT min(version), max(version) FROM config_versions WHERE service = ?", service).Scan(&first, &last)
		if err != nil {
			return err
		}
		gone := conf.Errorf(conf.CodeNotFound, "%s has no version %d", service, version)
		switch {
		case r != nil:
			return conf.Errorf(conf.CodeNotFound, "version %d of %s is its deletion", version, service).WithHint("restore the one before it")
		case !last.Valid:
			return gone.WithHint("nothing is stored of %s", service)
		}
		return gone.WithHint("the versions %d to %d are kept", first.Int64, last.Int64)
	})
	return values, err
}

// Versions describes the kept versions of a service, the newest first; limit 0
// is the default. A tombstone is among them.
func (s *Queries) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	limit, _ = tables.Window(limit, 0)
	out := []conf.Metadata{}
	err := s.read(ctx, "read the versions of "+service, func(q tables.Querier) error {
		rows, err := q.QueryContext(ctx, "SELECT version, updated_at, coalesce(updated_by, ''), config_epoch, checksum, issued_at, signature, key_id "+
			"FROM config_versions WHERE service = ? ORDER BY version DESC LIMIT ?", service, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m conf.Metadata
			if err := rows.Scan(&m.Version, &m.UpdatedAt, &m.UpdatedBy, &m.Epoch, &m.Checksum, &m.IssuedAt, &m.Signature, &m.KeyID); err != nil {
				return err
			}
			out = append(out, m)
		}
		return rows.Err()
	})
	return out, err
}

func profileOf(r *tables.Row) (conf.Profile, error) {
	p := conf.Profile{Name: r.Text(0), Description: r.Text(1), UpdatedAt: r.Text(3), UpdatedBy: r.Text(4)}
	if err := json.Unmarshal([]byte(r.Text(2)), &p.Services); err != nil {
		return p, tables.Corrupt("the profile %s: %w", p.Name, err)
	}
	return p, nil
}

// Profiles lists all profiles by name.
func (s *Queries) Profiles(ctx context.Context) ([]conf.Profile, error) {
	out := []conf.Profile{}
	err := s.read(ctx, "read the profiles", func(q tables.Querier) error {
		found := map[string]conf.Profile{}
		err := tables.Each(ctx, q, tables.NewDigester(), tables.Profiles, func(r *tables.Row) error {
			p, err := profileOf(r)
			found[p.Name] = p
			return err
		})
		for _, name := range conf.SortedKeys(found) {
			out = append(out, found[name])
		}
		return err
	})
	return out, err
}

// Profile reads one profile.
func (s *Queries) Profile(ctx context.Context, name string) (conf.Profile, error) {
	var p conf.Profile
	err := s.read(ctx, "read a profile", func(q tables.Querier) error {
		r, err := tables.Read(ctx, q, tables.NewDigester(), tables.Profiles, name)
		if err != nil {
			return err
		}
		if r == nil {
			return conf.Errorf(conf.CodeNotFound, "no profile %q", name).WithHint("list the profiles that exist: holdfast profile list")
		}
		p, err = profileOf(r)
		return err
	})
	return p, err
}

// Schemas lists all schemas by service.
func (s *Queries) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	out := []conf.SchemaInfo{}
	err := s.read(ctx, "read the schemas", func(q tables.Querier) error {
		found := map[string]conf.SchemaInfo{}
		err := tables.Each(ctx, q, tables.NewDigester(), tables.Schemas, func(r *tables.Row) error {
			found[r.Text(0)] = conf.SchemaInfo{
				Service: r.Text(0), Schema: json.RawMessage(r.Text(1)), Hash: r.Text(2), UpdatedAt: r.Text(3), UpdatedBy: r.Text(4),
			}
			return nil
		})
		for _, service := range conf.SortedKeys(found) {
			out = append(out, found[service])
		}
		return err
	})
	return out, err
}

// SecretKeyIDs counts the secrets that are sealed under each master key.
func (s *Queries) SecretKeyIDs(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	err := s.read(ctx, "count the secrets", func(q tables.Querier) error {
		rows, err := q.QueryContext(ctx, "SELECT key_id, count(*) FROM encrypted_secrets GROUP BY key_id")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			var n int
			if err := rows.Scan(&id, &n); err != nil {
				return err
			}
			out[id] = n
		}
		return rows.Err()
	})
	return out, err
}

// Epochs lists the changes of the epoch that this store knows, the oldest first.
// Their signatures are as they were applied: who trusts them verifies them.
func (s *Queries) Epochs(ctx context.Context) ([]conf.EpochChange, error) {
	var out []conf.EpochChange
	err := s.read(ctx, "read the epochs", func(q tables.Querier) error {
		return tables.Each(ctx, q, tables.NewDigester(), tables.Epochs, func(r *tables.Row) error {
			out = append(out, conf.EpochChange{
				Epoch: r.Text(0), Previous: r.Text(1), At: r.Text(2), Signature: r.Text(3), KeyID: r.Text(4),
			})
			return nil
		})
	})
	return out, err
}

// RequestResult is the result of an Edit that was applied with this id before,
// and whether there is one among those that are kept.
func (s *Queries) RequestResult(ctx context.Context, id string) (res command.Result, ok bool, err error) {
	err = s.read(ctx, "read a request's result", func(q tables.Querier) error {
		res, ok, err = tables.ReadRequest(ctx, q, tables.NewDigester(), id)
		return err
	})
	return res, ok, err
}

// Prunable says whether a Prune with these times would take anything away; an
// empty time asks for nothing.
func (s *Queries) Prunable(ctx context.Context, accessBefore, historyBefore string) (bool, error) {
	found := false
	err := s.read(ctx, "look for old rows", func(q tables.Querier) error {
		for l, before := range map[*tables.RetainedTable]string{tables.RetainedAccess: accessBefore, tables.RetainedHistory: historyBefore} {
			if before == "" {
				continue
			}
			ids, err := tables.Column[int64](ctx, q, l.Find, before, 1)
			if err != nil {
				return err
			}
			found = found || len(ids) > 0
		}
		return nil
	})
	return found, err
}
