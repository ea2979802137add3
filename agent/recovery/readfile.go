package recovery

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/store"
)

// FileContent is the content of a database file, such as one that was restored from a
// backup, without secrets.
type FileContent struct {
	Epoch    string
	Records  []*conf.Record // of the services that exist
	Schemas  []conf.SchemaInfo
	Profiles []conf.Profile
}

// ReadFile reads a database that no agent uses, and verifies all of it first.
func ReadFile(ctx context.Context, path string, log *slog.Logger) (c FileContent, err error) {
	if _, err := os.Stat(path); err != nil { // opening would create it
		return c, conf.Errorf(conf.CodeUsage, "read the database: %w", err).WithHint("name a file that holdfast backup restore made")
	}
	st, err := store.Open(ctx, schemas.StoreOptions(path, schema.NewCache(), log))
	if st != nil {
		defer func() { err = errors.Join(err, st.Close()) }()
	}
	if err != nil {
		return c, err
	}
	if c.Epoch = st.Epoch(); c.Epoch == "" {
		return c, conf.Errorf(conf.CodeNotFound, "%s holds no configuration", path).WithHint("name a file that holdfast backup restore made")
	}
	err = st.Queries.Records(ctx, func(r *conf.Record) error {
		if r.Exists() {
			c.Records = append(c.Records, r)
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	if c.Schemas, err = st.Queries.Schemas(ctx); err != nil {
		return c, err
	}
	c.Profiles, err = st.Queries.Profiles(ctx)
	return c, err
}
