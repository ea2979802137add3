package store

import (
	"context"
	"database/sql"
	_ "embed"
	"maps"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

//go:embed schema.sql
var schemaSQL string

// format is the layout of the file that this build makes and opens, in meta.format.
const format = 3

// table is a covered table: its rows carry a digest and travel in snapshots.
type table struct {
	name string
	key  []string // unique key, the first columns; none for a log
	cols []string // content, in the order of the canonical form
	id   bool     // rows have an id, which is not content but keeps their order

	selectAll string // content, digest and, where there is one, id
	selectKey string
	selectID  string // of a table with ids
	insert    string
	insertID  string
	upsert    string // touches only the indexes whose columns changed
	remove    string
}

// The covered tables, in the order in which a snapshot carries them.
var (
	tableSchemas = define("schemas", 1, false, "service", "schema_json", "hash", "updated_at", "updated_by")
	tableConfigs = define("service_configs", 1, false, "service", "config_json", "version", "config_epoch", "updated_at", "updated_by",
		"values_json", "checksum", "issued_at", "signature", "key_id", "deleted", "idx")
	tableVersions = define("config_versions", 2, false, "service", "version", "values_json", "checksum", "updated_at", "updated_by",
		"reason", "action", "config_epoch", "issued_at", "signature", "key_id", "deleted", "idx")
	tableHistory = define("config_history", 0, true, "service", "key", "old_value_json", "new_value_json", "changed_at", "changed_by",
		"change_reason", "version", "action")
	tableProfiles = define("profiles", 1, false, "name", "description", "services_json", "updated_at", "updated_by")
	tableSecrets  = define("encrypted_secrets", 2, true, "service", "key", "encrypted_value", "key_id", "created_at", "updated_at")
	tableAccess   = define("access_log", 0, true, "user_id", "action", "service", "key", "success", "reason", "timestamp")
	tableRequests = define("requests", 1, false, "id", "idx", "result_json")
	tableMembers  = define("members", 1, false, "node_id", "role", "service", "addr", "version", "key_hash", "joined_at", "removed_at")
	tableTokens   = define("join_tokens", 1, false, "id", "secret_hash", "role", "service", "expires_at", "uses", "used", "created_at",
		"created_by", "revoked_at")
	tableUses      = define("join_uses", 3, false, "token_id", "node_id", "key_hash", "used_at")
	tableAPITokens = define("api_tokens", 1, false, "id", "name", "role", "secret_hash", "expires_at", "created_at", "created_by", "revoked_at")
	tableSources   = define("audit_sources", 1, false, "source", "seq", "at")
	tableKeyring   = define("keyring", 2, false, "kind", "key_id", "public", "announced_at", "not_before", "not_after", "created_by", "proof", "hold")
	tableEpochs    = define("epochs", 1, false, "config_epoch", "old_epoch", "issued_at", "signature", "key_id")

	covered = []*table{
		tableSchemas, tableConfigs, tableVersions, tableHistory, tableProfiles, tableSecrets, tableAccess, tableRequests,
		tableMembers, tableTokens, tableUses, tableAPITokens, tableKeyring, tableEpochs, tableSources,
	}
)

// define makes a table whose first keys columns are its key.
func define(name string, keys int, id bool, cols ...string) *table {
	t := &table{name: name, key: cols[:keys], cols: cols, id: id}
	list := strings.Join(cols, ", ")
	where := strings.Join(t.key, " = ? AND ") + " = ?"
	more := ""
	if id {
		more = ", id"
	}
	t.selectAll = "SELECT " + list + ", digest" + more + " FROM " + name + " NOT INDEXED ORDER BY rowid"
	t.selectKey = "SELECT " + list + ", digest FROM " + name + " WHERE " + where
	t.selectID = "SELECT " + list + ", digest FROM " + name + " WHERE id = ?"
	t.insert = "INSERT INTO " + name + " (" + list + ", digest) VALUES (" + marks(len(cols)+1) + ")"
	t.insertID = "INSERT INTO " + name + " (" + list + ", digest, id) VALUES (" + marks(len(cols)+2) + ")"
	t.remove = "DELETE FROM " + name + " WHERE " + where
	set := "digest = excluded.digest"
	for _, c := range cols[keys:] {
		set += ", " + c + " = excluded." + c
	}
	t.upsert = t.insert + " ON CONFLICT (" + strings.Join(t.key, ", ") + ") DO UPDATE SET " + set
	return t
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// querier is what a connection and a transaction have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// statements splits the schema; sqlite_schema keeps each statement as it is
// written there.
func statements() []string {
	var out []string
	for s := range strings.SplitSeq(schemaSQL, ";") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// objectName is the third or, for a virtual table, the fourth word of a statement.
func objectName(stmt string) string {
	words := strings.Fields(stmt)
	if words[1] == "VIRTUAL" {
		words = words[1:]
	}
	return words[2]
}

// checkSchema compares the tables and indexes of the file with those of schema.sql.
// It reports empty for a file that has none at all.
func checkSchema(ctx context.Context, q querier) (empty bool, err error) {
	rows, err := q.QueryContext(ctx, "SELECT name, tbl_name, coalesce(sql, '') FROM sqlite_schema")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	ours := map[string]string{} // name -> statement
	for _, s := range statements() {
		ours[objectName(s)] = s
	}
	missing := maps.Clone(ours)
	for empty = true; rows.Next(); empty = false {
		var name, on, sql string
		if err := rows.Scan(&name, &on, &sql); err != nil {
			return false, err
		}
		switch stmt, known := ours[name]; {
		case known && stmt != sql:
			return false, corrupt("%s is not defined as this build defines it", name)
		case known:
			delete(missing, name)
		case sql == "" || strings.HasPrefix(name, "sqlite_") || strings.HasPrefix(on, "items_fts_"):
		case ours[on] != "":
			return false, corrupt("%s has a %s that this build did not make", on, name)
		}
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	if !empty && len(missing) > 0 {
		return false, corrupt("%s is missing", strings.Join(conf.SortedKeys(missing), ", "))
	}
	return empty, nil
}
