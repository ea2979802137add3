package store

import (
	"context"
	"crypto/sha256"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Epochs lists the changes of the epoch that this store knows, the oldest first.
// Their signatures are as they were applied: who trusts them verifies them.
func (s *Store) Epochs(ctx context.Context) ([]conf.EpochChange, error) {
	var out []conf.EpochChange
	err := s.read(ctx, "read the epochs", func(q querier) error {
		return eachRow(ctx, q, tableEpochs, newDigester(), func(vals []any, _ [sha256.Size]byte) error {
			out = append(out, conf.EpochChange{
				Epoch: textOf(vals[0]), Previous: textOf(vals[1]), At: textOf(vals[2]), Signature: textOf(vals[3]), KeyID: textOf(vals[4]),
			})
			return nil
		})
	})
	return out, err
}
