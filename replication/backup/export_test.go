package backup

import (
	"context"
	"time"
)

// Prune is pruneAt for tests, without a Runner.
func Prune(ctx context.Context, t Target, id ClusterIdentity, retention time.Duration, now time.Time, keep ...string) ([]string, error) {
	p, err := t.open(ctx)
	if err != nil {
		return nil, t.fault("remove old backups", err)
	}
	gens, err := listAt(ctx, p)
	if err != nil {
		return nil, t.fault("remove old backups", err)
	}
	removed, err := pruneAt(ctx, p, gens, id, retention, now, keep...)
	return removed, t.fault("remove old backups", err)
}
