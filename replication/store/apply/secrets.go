package apply

import (
	"cmp"
	"slices"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// maskedJSON is in the history in place of a secret.
const maskedJSON = `"` + conf.Masked + `"`

// putSecrets sets and removes secrets. Their services must have a new version in the
// same edit, which wakes the waiters.
func (t *editTx) putSecrets(versions map[string]uint64) error {
	c := t.c
	for i := range c.Secrets {
		s := &c.Secrets[i]
		version, ok := versions[s.Service]
		if !ok || slices.ContainsFunc(c.Updates, func(u command.Update) bool { return u.Service == s.Service && u.Deleted }) {
			return reject(conf.CodeInvalid, "the secret %s of %s has no new version of its service", s.Key, s.Service)
		}
		old, err := t.read(tables.Secrets, s.Service, s.Key)
		if err != nil {
			return err
		}
		switch {
		case s.Deleted && old == nil:
			continue
		case s.Deleted:
			err = t.remove(tables.Secrets, s.Service, s.Key)
		default:
			created := ""
			if old != nil {
				created = old.Text(tables.SecretCreated)
			}
			err = t.upsert(tables.Secrets, old, s.Service, s.Key, s.EncryptedValue, s.KeyID, cmp.Or(s.CreatedAt, created, c.At), cmp.Or(s.UpdatedAt, c.At))
		}
		if err != nil {
			return err
		}
		if old != nil && c.Action == command.ActionRebuild {
			continue // the same value under a new epoch is no change of it
		}
		if err := t.secretHistory(s.Service, s.Key, version, old != nil, s.Deleted); err != nil {
			return err
		}
	}
	return nil
}

// dropSecrets removes the secrets of a deleted service.
func (t *editTx) dropSecrets(u *command.Update) error {
	secrets, err := tables.SecretsOf(t.ctx, t.w, t.dig, u.Service)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := t.remove(tables.Secrets, u.Service, s.Key); err != nil {
			return err
		}
		if err := t.secretHistory(u.Service, s.Key, u.Version, true, true); err != nil {
			return err
		}
	}
	return nil
}

// secretHistory records that a secret changed, without values.
func (t *editTx) secretHistory(service, key string, version uint64, had, deleted bool) error {
	var was any
	if had {
		was = maskedJSON
	}
	is, action := maskedJSON, command.ActionSecretSet
	if deleted {
		is, action = "null", command.ActionSecretDelete
	}
	c := t.c
	return t.insert(tables.History, service, key, was, is, c.At, tables.Null(c.By), tables.Null(c.Reason), int64(version), action) //nolint:gosec // fits
}

// reseal replaces secrets by the same values under another key. The times of the row do
// not change: they are those of the value.
func (t *tx) reseal(c *command.Reseal) ([]string, error) {
	if t.st.Epoch == "" || c.Epoch != t.st.Epoch {
		return nil, rejection{conf.Errorf(conf.CodeConflict, "the secrets were sealed for the epoch %q, the store has %q", c.Epoch, t.st.Epoch).
			WithHint("seal them again")}
	}
	touched := map[string]bool{}
	for i := range c.Items {
		it := &c.Items[i]
		old, err := t.read(tables.Secrets, it.Service, it.Key)
		if err != nil {
			return nil, err
		}
		if old == nil || command.SealedDigest(old.Text(tables.SecretValue)) != it.PrevDigest {
			continue
		}
		// A service without a version of this epoch yet has secrets of the last one.
		cfg, err := t.read(tables.Configs, it.Service)
		if err != nil {
			return nil, err
		}
		if cfg == nil || cfg.Text(3) != c.Epoch {
			continue
		}
		err = t.upsert(tables.Secrets, old, it.Service, it.Key, it.EncryptedValue, it.KeyID, old.Text(tables.SecretCreated), old.Text(tables.SecretUpdated))
		if err != nil {
			return nil, err
		}
		touched[it.Service] = true
	}
	return conf.SortedKeys(touched), t.audit(c.Audit)
}
