package apply

import (
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

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
