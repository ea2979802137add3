package tables

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"strings"
)

// PageSize is SQLite's page size, which is also the size of a file without a table.
const PageSize = 4096

// ModelHash computes the hash of all schemas (service -> RFC 8785 form).
type ModelHash func(schemas map[string][]byte) string

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
	st.WantHash = modelHash(schemas)
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

// HashSchemas is the hash of all schemas. It does not verify their rows.
func HashSchemas(ctx context.Context, q Querier, modelHash ModelHash) (string, error) {
	all := map[string][]byte{}
	err := Select(ctx, q, func(rows *sql.Rows) error {
		var service string
		var text []byte
		err := rows.Scan(&service, &text)
		all[service] = text
		return err
	}, "SELECT service, schema_json FROM schemas")
	return modelHash(all), err
}

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
