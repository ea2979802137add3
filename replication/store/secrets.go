package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Columns of encrypted_secrets.
const (
	secretService = iota
	secretKey
	secretValue
	secretKeyID
	secretCreated
	secretUpdated
)

// maskedJSON stands for a secret in the history.
const maskedJSON = `"` + conf.Masked + `"`

// putSecrets sets and removes secrets of the services that c gives a new version,
// so that whoever waits for the service notices.
func (t *tx) putSecrets(c *command.Edit, versions map[string]uint64) error {
	for i := range c.Secrets {
		s := &c.Secrets[i]
		version, ok := versions[s.Service]
		if !ok || slices.ContainsFunc(c.Updates, func(u command.Update) bool { return u.Service == s.Service && u.Deleted }) {
			return refuse(conf.CodeInvalid, "the secret %s of %s comes without a new version of its service", s.Key, s.Service)
		}
		old, err := readRow(t.ctx, t.w, t.dig, tableSecrets, s.Service, s.Key)
		if err != nil {
			return err
		}
		switch {
		case s.Deleted && old == nil:
			continue
		case s.Deleted:
			err = t.remove(tableSecrets, s.Service, s.Key)
		default:
			created := ""
			if old != nil {
				created = old.text(secretCreated)
			}
			err = t.upsert(tableSecrets, old, s.Service, s.Key, s.EncryptedValue, s.KeyID, cmp.Or(s.CreatedAt, created, c.At), cmp.Or(s.UpdatedAt, c.At))
		}
		if err != nil {
			return err
		}
		if old != nil && c.Action == command.ActionRebuild {
			continue // the same value under a new epoch is no change of it
		}
		if err := t.secretHistory(c, s.Service, s.Key, version, old != nil, s.Deleted); err != nil {
			return err
		}
	}
	return nil
}

// dropSecrets removes what a service had, with the service.
func (t *tx) dropSecrets(c *command.Edit, u *command.Update) error {
	secrets, err := secretsOf(t.ctx, t.w, t.dig, u.Service)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := t.remove(tableSecrets, u.Service, s.Key); err != nil {
			return err
		}
		if err := t.secretHistory(c, u.Service, s.Key, u.Version, true, true); err != nil {
			return err
		}
	}
	return nil
}

// secretHistory tells that a secret changed, never from what or to what.
func (t *tx) secretHistory(c *command.Edit, service, key string, version uint64, had, deleted bool) error {
	var was any
	if had {
		was = maskedJSON
	}
	is, action := maskedJSON, command.ActionSecretSet
	if deleted {
		is, action = "null", command.ActionSecretDelete
	}
	return t.insert(tableHistory, service, key, was, is, c.At, null(c.By), null(c.Reason), int64(version), action) //nolint:gosec // fits
}

// reseal puts the same values under another key. The times of the row stay: they
// are those of the value.
func (t *tx) reseal(c *command.Reseal) ([]string, error) {
	if t.st.epoch == "" || c.Epoch != t.st.epoch {
		return nil, refusal{conf.Errorf(conf.CodeConflict, "the secrets were sealed for the epoch %q, the store has %q", c.Epoch, t.st.epoch).
			WithHint("seal them again")}
	}
	touched := map[string]bool{}
	for i := range c.Items {
		it := &c.Items[i]
		old, err := readRow(t.ctx, t.w, t.dig, tableSecrets, it.Service, it.Key)
		if err != nil {
			return nil, err
		}
		if old == nil || command.SealedDigest(old.text(secretValue)) != it.PrevDigest {
			continue
		}
		// A service that waits for its version of this epoch has secrets of the one
		// before.
		cfg, err := readRow(t.ctx, t.w, t.dig, tableConfigs, it.Service)
		if err != nil {
			return nil, err
		}
		if cfg == nil || cfg.text(3) != c.Epoch {
			continue
		}
		err = t.upsert(tableSecrets, old, it.Service, it.Key, it.EncryptedValue, it.KeyID, old.text(secretCreated), old.text(secretUpdated))
		if err != nil {
			return nil, err
		}
		touched[it.Service] = true
	}
	return conf.SortedKeys(touched), t.audit(c.Audit)
}

const sqlSecretsOf = "SELECT service, key, encrypted_value, key_id, created_at, updated_at, digest FROM encrypted_secrets WHERE service = ? ORDER BY key"

// secretsOf reads the secrets of a service, in ascending order of their keys.
func secretsOf(ctx context.Context, q querier, dig *digester, service string) ([]conf.SealedSecret, error) {
	rows, err := q.QueryContext(ctx, sqlSecretsOf, service)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []conf.SealedSecret
	n := len(tableSecrets.cols)
	for rows.Next() {
		vals := make([]any, n+1)
		dst := make([]any, n+1)
		for i := range vals {
			dst[i] = &vals[i]
		}
		if err := rows.Scan(dst...); err != nil {
			return nil, err
		}
		d, err := dig.row(tableSecrets.name, vals[:n])
		if err != nil {
			return nil, err
		}
		if !sameDigest(d, vals[n]) || textOf(vals[secretService]) != service {
			return nil, corrupt("a secret of %s does not have its digest", service)
		}
		out = append(out, sealedOf(vals))
	}
	return out, rows.Err()
}

func sealedOf(vals []any) conf.SealedSecret {
	return conf.SealedSecret{
		Key: textOf(vals[secretKey]), Value: textOf(vals[secretValue]), KeyID: textOf(vals[secretKeyID]),
		CreatedAt: textOf(vals[secretCreated]), UpdatedAt: textOf(vals[secretUpdated]),
	}
}

// allSecrets reads all secrets by service.
func allSecrets(ctx context.Context, q querier, dig *digester) (map[string][]conf.SealedSecret, error) {
	all := map[string][]conf.SealedSecret{}
	err := eachRow(ctx, q, tableSecrets, dig, func(vals []any, _ [sha256.Size]byte) error {
		service := textOf(vals[secretService])
		all[service] = append(all[service], sealedOf(vals))
		return nil
	})
	for _, list := range all {
		slices.SortFunc(list, func(a, b conf.SealedSecret) int { return strings.Compare(a.Key, b.Key) })
	}
	return all, err
}

// Secrets gives fn each service that has secrets, with them, in ascending order
// of their names. The values are sealed.
func (s *Store) Secrets(ctx context.Context, fn func(service string, secrets []conf.SealedSecret) error) error {
	var all map[string][]conf.SealedSecret
	err := s.read(ctx, "read the secrets", func(q querier) error {
		var err error
		all, err = allSecrets(ctx, q, newDigester())
		return err
	})
	if err != nil {
		return err
	}
	for _, service := range conf.SortedKeys(all) {
		if err := fn(service, all[service]); err != nil {
			return err
		}
	}
	return nil
}

// SecretKeyIDs counts the secrets that are sealed under each master key.
func (s *Store) SecretKeyIDs(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	err := s.read(ctx, "count the secrets", func(q querier) error {
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
