package store

import (
	"database/sql"
	"strings"
	"testing"
)

// The seed's tables and indexes: names, order and types of columns are a
// contract. More columns may follow.
const seedColumns = `
schema_version: id INTEGER pk, version INTEGER notnull, model_hash TEXT notnull, updated_at TEXT notnull
service_configs: service TEXT pk, config_json TEXT notnull, version INTEGER notnull default 1, config_epoch TEXT notnull, updated_at TEXT notnull, updated_by TEXT
config_items: id INTEGER pk, service TEXT notnull, key TEXT notnull, value_json TEXT notnull, type TEXT notnull, complexity TEXT notnull, description TEXT notnull, help_text TEXT, is_secret INTEGER notnull default 0, updated_at TEXT notnull, updated_by TEXT
config_history: id INTEGER pk, service TEXT notnull, key TEXT notnull, old_value_json TEXT, new_value_json TEXT notnull, changed_at TEXT notnull, changed_by TEXT, change_reason TEXT
encrypted_secrets: id INTEGER pk, service TEXT notnull, key TEXT notnull, encrypted_value TEXT notnull, key_id TEXT notnull, created_at TEXT notnull, updated_at TEXT notnull
access_log: id INTEGER pk, user_id TEXT, action TEXT notnull, service TEXT, key TEXT, success INTEGER notnull, reason TEXT, timestamp TEXT notnull
`

const seedIndexes = `
idx_service_configs_epoch: service_configs(config_epoch)
idx_config_items_service: config_items(service)
idx_config_items_complexity: config_items(complexity)
idx_config_items_key: config_items(key)
idx_config_items_search: config_items(service,key,description)
idx_config_history_service: config_history(service)
idx_config_history_time: config_history(changed_at)
idx_encrypted_secrets_key_id: encrypted_secrets(key_id)
idx_access_log_time: access_log(timestamp)
idx_access_log_user: access_log(user_id)
`

func TestSeedSchema(t *testing.T) {
	s := openNew(t)
	for line := range strings.Lines(strings.TrimSpace(seedColumns)) {
		table, want, _ := strings.Cut(strings.TrimSpace(line), ": ")
		rows, err := s.reads.QueryContext(t.Context(), "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?) ORDER BY cid", table)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for rows.Next() {
			var name, typ string
			var notnull, pk bool
			var def sql.NullString
			if err := rows.Scan(&name, &typ, &notnull, &def, &pk); err != nil {
				t.Fatal(err)
			}
			col := name + " " + typ
			if pk {
				col += " pk"
			}
			if notnull {
				col += " notnull"
			}
			if def.Valid {
				col += " default " + def.String
			}
			got = append(got, col)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		columns := strings.Split(want, ", ")
		if len(got) < len(columns) {
			t.Errorf("%s has the columns %v", table, got)
			continue
		}
		same(t, table, columns, got[:len(columns)])
	}
	for line := range strings.Lines(strings.TrimSpace(seedIndexes)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), ": ")
		var got string
		err := s.reads.QueryRowContext(t.Context(), "SELECT tbl_name || '(' || (SELECT group_concat(name) FROM pragma_index_info(m.name)) || ')' FROM sqlite_schema m WHERE type = 'index' AND name = ?", name).Scan(&got)
		if err != nil || got != want {
			t.Errorf("index %s is on %s, want %s (%v)", name, got, want, err)
		}
	}
	// The constraints that the table info does not tell.
	for _, bad := range []string{
		"INSERT INTO schema_version VALUES (2, 1, 'h', 't')",
		"INSERT INTO config_items (service, key, value_json, type, complexity, description, updated_at) VALUES ('a', 'k', '1', 's', 's', '', 't'), ('a', 'k', '1', 's', 's', '', 't')",
		"INSERT INTO encrypted_secrets (service, key, encrypted_value, key_id, created_at, updated_at) VALUES ('a', 'k', '', '', '', ''), ('a', 'k', '', '', '', '')",
	} {
		if err := s.w.Exec(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "constraint") {
			t.Errorf("%s: %v, want a constraint", bad, err)
		}
	}
}
