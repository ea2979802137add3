package recovery

import (
	"context"
	"crypto/ed25519"
	"log/slog"

	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

// VerifyRecord checks the leader's signature on a record that was read from disk. A
// record signed by another key (the operator changed it by hand, or lost the .env
// file) must still match its checksum: an attacker who can write the database of a
// single node is not stopped from changing it; see docs/threat-model.md. Other
// members notice by the digest of the state.
func VerifyRecord(r *conf.Record, trusted map[string]ed25519.PublicKey) error {
	if err := verifyOne(r, trusted); err != nil {
		return err
	}
	for v := range r.Staged.Signed() { // of a rollout
		if err := verifyOne(v.Record(r, r.UpdatedAt, r.UpdatedBy), trusted); err != nil {
			return err
		}
	}
	return nil
}

func verifyOne(r *conf.Record, trusted map[string]ed25519.PublicKey) error {
	if pub := trusted[r.KeyID]; pub != nil {
		return seal.VerifyRecord(pub, r)
	}
	if seal.Checksum(r.Config) != r.Checksum {
		return conf.Errorf(conf.CodeCorrupt, "checksum of %s version %d does not match", r.Service, r.Version)
	}
	return nil
}

// CheckFile verifies all of a restored database file, as opening a database does. It is
// backup.Options.Check, for the schemas of cache.
func CheckFile(ctx context.Context, file string, cache *schema.Cache, log *slog.Logger) (c backup.Content, err error) {
	st, err := store.Open(ctx, schemas.StoreOptions(file, cache, log))
	if st != nil {
		defer func() {
			if cerr := st.Close(); err == nil {
				err = cerr
			}
		}()
	}
	if err != nil {
		return c, err
	}
	c.Index, c.Digest = st.Position()
	_, c.Term = st.Applied()
	if c.Epoch = st.Epoch(); c.Epoch == "" {
		return c, conf.Errorf(conf.CodeCorrupt, "the restored database holds no epoch")
	}
	return c, nil
}
