package store

import (
	"context"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// formatOf tells the format of the file by its tables, 0 when it has none.
func (s *Store) formatOf(ctx context.Context) (int, error) {
	// A newer build's tables may look wrong to this one, and are not corrupt.
	if _, err := readMeta(ctx, s.w, s.dig); conf.CodeOf(err) == conf.CodeUnsupported {
		return 0, err
	}
	return checkSchema(ctx, s.w)
}

// migrate gives a file whose tables are those of the format has the tables and
// indexes of this build's. Rows stay, and new tables are empty, so the state
// digest stays as it is.
func (s *Store) migrate(ctx context.Context, st *state, has int) error {
	if st.format != has {
		return corrupt("meta says that it has format %d, its tables are those of %d", st.format, has)
	}
	if has == format {
		return nil
	}
	s.log.Info("bringing the database to a newer format", "path", s.opts.Path, "from", has, "to", format)
	old, now := objects(has), objects(format)
	for _, stmt := range statements(has) {
		name := objectName(stmt)
		if now[name] == stmt {
			continue
		}
		if !strings.HasPrefix(stmt, "CREATE INDEX") {
			return conf.Errorf(conf.CodeInternal, "bring the database to format %d: %s differs", format, name)
		}
		if _, err := s.w.conn.ExecContext(ctx, "DROP INDEX "+name); err != nil {
			return err
		}
	}
	for _, stmt := range statements(format) {
		if old[objectName(stmt)] == stmt {
			continue
		}
		if _, err := s.w.conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	if err := s.leaveMerging(ctx); err != nil {
		return err
	}
	if err := s.w.exec(ctx, sqlItemsAt, int64(st.index)); err != nil { //nolint:gosec // fits
		return err
	}
	st.format = format
	return s.w.writeMeta(ctx, s.dig, st, st)
}
