package tables

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"iter"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// State is the state of the store in memory. It is replaced as a whole, after COMMIT.
type State struct {
	Index, Term    uint64
	Epoch, Created string
	Version        int
	VersionAt      string
	ModelHash      string // of the table schema_version
	WantHash       string // of the schemas as they are stored
	Digest         Sum
	Items          Sum // of config_items, which is not replicated content
	ItemCount      int64
	RequestCount   int64                    // rows of the table requests
	ServiceCount   int64                    // rows of the table service_configs
	APITokens      map[string]conf.APIToken // by id; never changed, only replaced
}

const metaColumns = "format, applied_index, applied_term, config_epoch, created_at, schema_version, schema_updated_at, state_digest, items_digest, items_count"

// MetaRow is the row of meta without its digest.
func (st *State) MetaRow() []any {
	return []any{
		int64(Format), int64(st.Index), int64(st.Term), st.Epoch, st.Created, //nolint:gosec // indexes fit
		int64(st.Version), st.VersionAt, st.Digest.Bytes(), st.Items.Bytes(), st.ItemCount,
	}
}

// ReadMeta reads the row of meta, and verifies it and its format.
func ReadMeta(ctx context.Context, q Querier, dig *Digester) (*State, error) {
	vals, dst := ScanBuffer(11)
	err := q.QueryRowContext(ctx, "SELECT "+metaColumns+", digest FROM meta WHERE id = 1").Scan(dst...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, Corrupt("the row of meta is missing")
	}
	if err != nil {
		return nil, err
	}
	d, err := dig.Row("meta", vals[:10])
	if err != nil {
		return nil, err
	}
	if !sameDigest(d, vals[10]) {
		return nil, Corrupt("the row of meta does not have its digest")
	}
	if f := IntOf(vals[0]); f != Format {
		err := conf.Errorf(conf.CodeUnsupported, "the database has format %d, this build supports %d", f, Format)
		if f < Format {
			return nil, err.WithHint("a build from before the first release made it: move the file away, and copy the data from the cluster or a backup")
		}
		return nil, err.WithHint("a newer holdfast made it: update this node")
	}
	return &State{
		Index: UintOf(vals[1]), Term: UintOf(vals[2]), Epoch: TextOf(vals[3]), Created: TextOf(vals[4]),
		Version: int(IntOf(vals[5])), VersionAt: TextOf(vals[6]), ItemCount: IntOf(vals[9]),
		Digest: sumOf(vals[7]), Items: sumOf(vals[8]),
	}, nil
}

// WriteMeta stores st; schema_version follows when it changed.
func (w *Writer) WriteMeta(ctx context.Context, st, old *State) error {
	vals := st.MetaRow()
	d, err := w.Dig.Row("meta", vals)
	if err != nil {
		return err
	}
	if err := w.Exec(ctx, "INSERT OR REPLACE INTO meta ("+metaColumns+", digest, id) VALUES ("+placeholders(11)+", 1)", append(vals, d[:])...); err != nil {
		return err
	}
	if st.Version == old.Version && st.ModelHash == old.ModelHash && st.VersionAt == old.VersionAt {
		return nil
	}
	return w.Exec(ctx, "INSERT OR REPLACE INTO schema_version (id, version, model_hash, updated_at) VALUES (1, ?, ?, ?)",
		int64(st.Version), st.ModelHash, st.VersionAt)
}

func sumOf(v any) (s Sum) {
	if b, _ := v.([]byte); len(b) == sha256.Size {
		s.Add([sha256.Size]byte(b))
	}
	return s
}

// PageSize is SQLite's page size, which is also the size of a file without a table.
const PageSize = 4096

// ModelHash computes the hash of all schemas: services with the RFC 8785 form, in the order
// of their names.
type ModelHash func(schemas iter.Seq2[string, []byte]) string

// VerifyRows verifies every covered row and reads the state from them.
func VerifyRows(ctx context.Context, q Querier, modelHash ModelHash) (*State, error) {
	dig := NewDigester()
	st, err := ReadMeta(ctx, q, dig)
	if err != nil {
		return nil, err
	}
	var all Sum
	schemas := map[string][]byte{}
	for _, t := range Covered {
		n := int64(0)
		err := Each(ctx, q, dig, t, func(r *Row) error {
			all.Add(r.Digest)
			n++
			if t == Schemas {
				text := []byte(r.Text(1))
				if sha := sha256.Sum256(text); hex.EncodeToString(sha[:]) != r.Text(2) {
					return Corrupt("the schema of %s does not have its hash", r.Text(0))
				}
				schemas[r.Text(0)] = text
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		switch t {
		case Requests:
			st.RequestCount = n
		case Configs:
			st.ServiceCount = n
		}
	}
	if all != st.Digest {
		return nil, Corrupt("the rows have the digest %s, meta says %s", all, st.Digest)
	}
	if st.Version == 0 {
		return st, nil // no Genesis yet
	}
	st.WantHash = modelHash(func(yield func(string, []byte) bool) {
		for _, service := range conf.SortedKeys(schemas) {
			if !yield(service, schemas[service]) {
				return
			}
		}
	})
	var version int
	var at string
	err = q.QueryRowContext(ctx, "SELECT version, model_hash, updated_at FROM schema_version WHERE id = 1").Scan(&version, &st.ModelHash, &at)
	if err != nil {
		return nil, Corrupt("schema_version: %w", err)
	}
	if version != st.Version || at != st.VersionAt {
		return nil, Corrupt("schema_version has version %d, meta says %d", version, st.Version)
	}
	return st, nil
}

// HashSchemas is the hash of all schemas. It does not verify their rows, and has one of
// them in memory at a time.
func HashSchemas(ctx context.Context, q Querier, modelHash ModelHash) (hash string, err error) {
	hash = modelHash(func(yield func(string, []byte) bool) {
		err = Select(ctx, q, func(rows *sql.Rows) error {
			var service string
			var text sql.RawBytes
			if err := rows.Scan(&service, &text); err != nil {
				return err
			}
			if !yield(service, text) {
				return errStopped
			}
			return nil
		}, "SELECT service, schema_json FROM schemas ORDER BY service")
	})
	return hash, err
}

var errStopped = errors.New("not all schemas are hashed")

// CheckPages lets SQLite check the structure of the file. Damage in the full-text
// index only makes derived false.
func CheckPages(ctx context.Context, q Querier, full bool) (derived bool, err error) {
	// Rows are found through the indexes of these tables when a change is applied.
	checks := []string{"PRAGMA integrity_check(meta)", "PRAGMA integrity_check(schema_version)"}
	for _, t := range Covered {
		checks = append(checks, "PRAGMA integrity_check("+t.Name+")")
	}
	if full {
		// A search reads names from the indexes of the items.
		checks = append(checks, "PRAGMA quick_check", "PRAGMA integrity_check(config_items)")
	} else {
		checks = append(checks, "PRAGMA quick_check(config_items)", "PRAGMA quick_check(items_fts_data)",
			"PRAGMA quick_check(items_fts_idx)", "PRAGMA quick_check(items_fts_docsize)", "PRAGMA quick_check(items_fts_config)")
	}
	derived = true
	for _, c := range checks {
		messages, err := Column[string](ctx, q, c)
		if err != nil {
			return false, err
		}
		for _, msg := range messages {
			switch {
			case msg == "ok":
			case strings.Contains(strings.ToLower(msg), "fts5"):
				derived = false
			default:
				return false, Corrupt("%s", msg)
			}
		}
	}
	return derived, nil
}
