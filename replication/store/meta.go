package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// state is what memory keeps of the store. It is replaced as a whole, after COMMIT.
type state struct {
	index, term    uint64
	epoch, created string
	version        int
	versionAt      string
	modelHash      string // of the table schema_version
	wantHash       string // of the schemas as they are stored
	digest         sum
	items          sum // of config_items, which is not replicated content
	itemCount      int64
	requests       int64                    // rows of the table requests
	services       int64                    // rows of the table service_configs
	apiTokens      map[string]conf.APIToken // by id; never changed, only replaced
}

const metaColumns = "format, applied_index, applied_term, config_epoch, created_at, schema_version, schema_updated_at, state_digest, items_digest, items_count"

func (st *state) metaRow() []any {
	return []any{
		int64(format), int64(st.index), int64(st.term), st.epoch, st.created, //nolint:gosec // indexes fit
		int64(st.version), st.versionAt, st.digest.bytes(), st.items.bytes(), st.itemCount,
	}
}

// readMeta reads the meta row and proves it by its own digest.
func readMeta(ctx context.Context, q querier, dig *digester) (*state, error) {
	vals := make([]any, 11)
	dst := make([]any, len(vals))
	for i := range vals {
		dst[i] = &vals[i]
	}
	err := q.QueryRowContext(ctx, "SELECT "+metaColumns+", digest FROM meta WHERE id = 1").Scan(dst...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, corrupt("the row of meta is missing")
	}
	if err != nil {
		return nil, err
	}
	d, err := dig.row("meta", vals[:10])
	if err != nil {
		return nil, err
	}
	if !sameDigest(d, vals[10]) {
		return nil, corrupt("the row of meta does not have its digest")
	}
	f := intOf(vals[0])
	if f != format {
		err := conf.Errorf(conf.CodeUnsupported, "the database has format %d, this build knows %d", f, format)
		if f < format {
			return nil, err.WithHint("a build from before the first release made it: move the file away, and copy the data from the cluster or a backup")
		}
		return nil, err.WithHint("a newer holdfast made it: update this node")
	}
	st := &state{
		index: uintOf(vals[1]), term: uintOf(vals[2]), epoch: textOf(vals[3]), created: textOf(vals[4]),
		version: int(intOf(vals[5])), versionAt: textOf(vals[6]), itemCount: intOf(vals[9]),
	}
	st.digest, st.items = sumOf(vals[7]), sumOf(vals[8])
	return st, nil
}

// writeMeta stores st; schema_version follows when it changed.
func (w *writer) writeMeta(ctx context.Context, dig *digester, st, old *state) error {
	vals := st.metaRow()
	d, err := dig.row("meta", vals)
	if err != nil {
		return err
	}
	if err := w.exec(ctx, "INSERT OR REPLACE INTO meta ("+metaColumns+", digest, id) VALUES ("+marks(11)+", 1)", append(vals, d[:])...); err != nil {
		return err
	}
	if st.version == old.version && st.modelHash == old.modelHash && st.versionAt == old.versionAt {
		return nil
	}
	return w.exec(ctx, "INSERT OR REPLACE INTO schema_version (id, version, model_hash, updated_at) VALUES (1, ?, ?, ?)",
		int64(st.version), st.modelHash, st.versionAt)
}

func textOf(v any) string {
	s, _ := v.(string)
	return s
}

func intOf(v any) int64 {
	n, _ := v.(int64)
	return n
}

func uintOf(v any) uint64 { return uint64(intOf(v)) } //nolint:gosec // written from an uint64

func sumOf(v any) sum {
	b, _ := v.([]byte)
	if len(b) != sha256.Size {
		return sum{}
	}
	var s sum
	s.add([sha256.Size]byte(b))
	return s
}

// null is "" as NULL, for the seed's nullable columns.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}
