package query

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Record reads one service: its document, or its tombstone, or (Version 0) only
// its schema. CodeNotFound when there is nothing.
func (s *Queries) Record(ctx context.Context, service string) (*conf.Record, error) {
	return get(ctx, s, "read "+service, func(q tables.Querier) (*conf.Record, error) {
		r, err := tables.ReadStored(ctx, q, tables.NewDigester(), service)
		if err != nil {
			return nil, err
		}
		if r.Record == nil {
			return nil, conf.Errorf(conf.CodeNotFound, "no service %q", service).WithHint("list the services that exist: holdfast get")
		}
		return r.Record, nil
	})
}

// Records calls fn with every service, tombstones and bare schemas too, all as
// of one moment. An error of fn ends it and is returned.
func (s *Queries) Records(ctx context.Context, fn func(*conf.Record) error) error {
	var stopped error
	call := func(rec *conf.Record) error {
		stopped = fn(rec)
		return stopped
	}
	err := s.read(ctx, "read the services", func(q tables.Querier) error {
		dig := tables.NewDigester()
		bare := map[string]*conf.Record{}
		err := tables.Each(ctx, q, dig, tables.Schemas, func(r *tables.Row) error {
			bare[r.Text(0)] = tables.BareRecord(r)
			return nil
		})
		if err != nil {
			return err
		}
		secrets, err := tables.AllSecrets(ctx, q, dig)
		if err != nil {
			return err
		}
		staged, err := tables.AllStaged(ctx, q, dig)
		if err != nil {
			return err
		}
		err = tables.Each(ctx, q, dig, tables.Configs, func(r *tables.Row) error {
			rec, err := tables.RecordOf(r)
			if err != nil {
				return err
			}
			rec.Secrets = secrets[rec.Service]
			if b := bare[rec.Service]; b != nil {
				rec.Schema = b.Schema
				delete(bare, rec.Service)
			}
			if err := staged.Add(rec); err != nil {
				return err
			}
			return call(rec)
		})
		if err != nil {
			return err
		}
		for _, service := range conf.SortedKeys(bare) {
			if err := call(bare[service]); err != nil {
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
	return get(ctx, s, "read a version of "+service, func(q tables.Querier) (json.RawMessage, error) {
		r, err := row(ctx, q, tables.Versions, service, int64(version)) //nolint:gosec // a stored version fits
		switch {
		case err != nil:
			return nil, err
		case r != nil && r.Vals[12] == int64(0):
			return json.RawMessage(r.Text(2)), nil
		case r != nil:
			return nil, conf.Errorf(conf.CodeNotFound, "version %d of %s is a tombstone", version, service).WithHint("restore the one before it")
		}
		var first, last sql.NullInt64
		err = q.QueryRowContext(ctx, "SELECT min(version), max(version) FROM config_versions WHERE service = ?", service).Scan(&first, &last)
		if err != nil {
			return nil, err
		}
		missing := conf.Errorf(conf.CodeNotFound, "%s has no version %d", service, version)
		if !last.Valid {
			return nil, missing.WithHint("no version of %s is stored", service)
		}
		return nil, missing.WithHint("the versions %d to %d are kept", first.Int64, last.Int64)
	})
}

// Versions describes the stored versions of a service, the newest first; limit 0
// is the default. A tombstone is among them.
func (s *Queries) Versions(ctx context.Context, service string, limit int) ([]conf.Metadata, error) {
	limit, _ = tables.Window(limit, 0)
	return get(ctx, s, "read the versions of "+service, func(q tables.Querier) ([]conf.Metadata, error) {
		return scan(ctx, q, func(rows *sql.Rows, m *conf.Metadata) error {
			return rows.Scan(&m.Version, &m.UpdatedAt, &m.UpdatedBy, &m.Epoch, &m.Checksum, &m.IssuedAt, &m.Signature, &m.KeyID)
		}, "SELECT version, updated_at, coalesce(updated_by, ''), config_epoch, checksum, issued_at, signature, key_id "+
			"FROM config_versions WHERE service = ? ORDER BY version DESC LIMIT ?", service, limit)
	})
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
	return list(ctx, s, "read the profiles", tables.Profiles, profileOf, func(a, b conf.Profile) int { return strings.Compare(a.Name, b.Name) })
}

// Profile reads one profile.
func (s *Queries) Profile(ctx context.Context, name string) (conf.Profile, error) {
	return get(ctx, s, "read a profile", func(q tables.Querier) (conf.Profile, error) {
		r, err := row(ctx, q, tables.Profiles, name)
		if err != nil {
			return conf.Profile{}, err
		}
		if r == nil {
			return conf.Profile{}, conf.Errorf(conf.CodeNotFound, "no profile %q", name).WithHint("list the profiles that exist: holdfast profile list")
		}
		return profileOf(r)
	})
}

// Schemas lists all schemas by service.
func (s *Queries) Schemas(ctx context.Context) ([]conf.SchemaInfo, error) {
	return list(ctx, s, "read the schemas", tables.Schemas, func(r *tables.Row) (conf.SchemaInfo, error) {
		return conf.SchemaInfo{
			Service: r.Text(0), Schema: json.RawMessage(r.Text(1)), Hash: r.Text(2), UpdatedAt: r.Text(3), UpdatedBy: r.Text(4),
		}, nil
	}, func(a, b conf.SchemaInfo) int { return strings.Compare(a.Service, b.Service) })
}

// SecretKeyIDs counts the secrets that are sealed under each master key.
func (s *Queries) SecretKeyIDs(ctx context.Context) (map[string]int, error) {
	return get(ctx, s, "count the secrets", func(q tables.Querier) (map[string]int, error) {
		out := map[string]int{}
		err := tables.Select(ctx, q, func(rows *sql.Rows) error {
			var id string
			var n int
			err := rows.Scan(&id, &n)
			out[id] = n
			return err
		}, "SELECT key_id, count(*) FROM encrypted_secrets GROUP BY key_id")
		return out, err
	})
}

// Epochs lists the changes of the epoch that this store has, the oldest first.
// Their signatures are as they were applied: a caller verifies them.
func (s *Queries) Epochs(ctx context.Context) ([]conf.EpochChange, error) {
	return list(ctx, s, "read the epochs", tables.Epochs, func(r *tables.Row) (conf.EpochChange, error) {
		return conf.EpochChange{Epoch: r.Text(0), Previous: r.Text(1), At: r.Text(2), Signature: r.Text(3), KeyID: r.Text(4)}, nil
	}, func(_, _ conf.EpochChange) int { return 0 })
}

// RequestResult is the result of an Edit that was applied with this id before,
// and whether there is one among those that are stored.
func (s *Queries) RequestResult(ctx context.Context, id string) (res command.Result, ok bool, err error) {
	err = s.read(ctx, "read a request's result", func(q tables.Querier) error {
		res, ok, err = tables.ReadRequest(ctx, q, tables.NewDigester(), id)
		return err
	})
	return res, ok, err
}
