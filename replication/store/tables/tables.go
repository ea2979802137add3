package tables

import (
	"context"
	"database/sql"
	_ "embed"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

//go:embed schema.sql
var schemaSQL string

// Format is the layout of the file that this build makes and opens, in meta.format.
const Format = 3

// Table is a covered table: its rows carry a digest and travel in snapshots.
type Table struct {
	Name  string
	Key   []string // unique key, the first columns; none for a log
	Cols  []string // content, in the order of the canonical form
	HasID bool     // rows have an id, which is not content but keeps their order
	Later bool     // files and snapshots of earlier builds of this format lack it: it has no rows there

	SelectAll string // content, digest and, where there is one, id
	SelectKey string
	SelectID  string // of a table with ids
	Insert    string
	InsertID  string
	Upsert    string // touches only the indexes whose columns changed
	Delete    string
	Drop      string // Delete, and returns the digest
}

// The covered tables, in the order in which a snapshot carries them.
var (
	Schemas = define("schemas", 1, false, "service", "schema_json", "hash", "updated_at", "updated_by")
	Configs = define("service_configs", 1, false, "service", "config_json", "version", "config_epoch", "updated_at", "updated_by",
		"values_json", "checksum", "issued_at", "signature", "key_id", "deleted", "idx")
	Versions = define("config_versions", 2, false, "service", "version", "values_json", "checksum", "updated_at", "updated_by",
		"reason", "action", "config_epoch", "issued_at", "signature", "key_id", "deleted", "idx")
	History = define("config_history", 0, true, "service", "key", "old_value_json", "new_value_json", "changed_at", "changed_by",
		"change_reason", "version", "action")
	Profiles   = define("profiles", 1, false, "name", "description", "services_json", "updated_at", "updated_by")
	Secrets    = define("encrypted_secrets", 2, true, "service", "key", "encrypted_value", "key_id", "created_at", "updated_at")
	AccessLog  = define("access_log", 0, true, "user_id", "action", "service", "key", "success", "reason", "timestamp")
	Requests   = define("requests", 1, false, "id", "idx", "result_json")
	Members    = define("members", 1, false, "node_id", "role", "service", "addr", "version", "key_hash", "joined_at", "removed_at")
	JoinTokens = define("join_tokens", 1, false, "id", "secret_hash", "role", "service", "expires_at", "uses", "used", "created_at",
		"created_by", "revoked_at")
	JoinUses     = define("join_uses", 3, false, "token_id", "node_id", "key_hash", "used_at")
	APITokens    = define("api_tokens", 1, false, "id", "name", "role", "secret_hash", "expires_at", "created_at", "created_by", "revoked_at")
	MemberKeys   = later(define("member_keys", 2, false, "node_id", "key_hash", "role", "since", "revoked_at", "ends_at"))
	AuditSources = define("audit_sources", 1, false, "source", "seq", "at")
	Keyring      = define("keyring", 2, false, "kind", "key_id", "public", "announced_at", "not_before", "not_after", "created_by", "proof", "hold")
	Epochs       = define("epochs", 1, false, "config_epoch", "old_epoch", "issued_at", "signature", "key_id")

	// The rollouts: one row for each service with versions that are reserved or signed beside
	// the stable one, these versions, and what is known of each rollout.
	Staged         = later(define("staged", 1, false, "service", "floor", "rollout"))
	StagedVersions = later(define("staged_versions", 2, false, "service", "role", "version", "values_json", "config_json", "checksum",
		"issued_at", "signature", "key_id"))
	Rollouts = later(define("rollouts", 2, false, "service", "id", "idx", "config_epoch", "candidate", "revert", "plan_json", "salt",
		"started_at", "started_by", "reason", "step", "step_at", "step_idx", "targets_json", "paused", "state", "end_reason", "ended_by", "ended_at"))

	Covered = []*Table{
		Schemas, Configs, Versions, History, Profiles, Secrets, AccessLog, Requests,
		Members, JoinTokens, JoinUses, APITokens, Keyring, Epochs, AuditSources, MemberKeys,
		Staged, StagedVersions, Rollouts,
	}
)

const returningDigest = " RETURNING digest"

// DropOldestRequest drops the result of the oldest request.
const DropOldestRequest = "DELETE FROM requests WHERE idx = (SELECT min(idx) FROM requests)" + returningDigest

// define makes a table whose first keys columns are its key.
func define(name string, keys int, id bool, cols ...string) *Table {
	t := &Table{Name: name, Key: cols[:keys], Cols: cols, HasID: id}
	list := strings.Join(cols, ", ")
	where := strings.Join(t.Key, " = ? AND ") + " = ?"
	more := ""
	if id {
		more = ", id"
	}
	t.SelectAll = "SELECT " + list + ", digest" + more + " FROM " + name + " NOT INDEXED ORDER BY rowid"
	t.SelectKey = "SELECT " + list + ", digest FROM " + name + " WHERE " + where
	t.SelectID = "SELECT " + list + ", digest FROM " + name + " WHERE id = ?"
	t.Insert = "INSERT INTO " + name + " (" + list + ", digest) VALUES (" + placeholders(len(cols)+1) + ")"
	t.InsertID = "INSERT INTO " + name + " (" + list + ", digest, id) VALUES (" + placeholders(len(cols)+2) + ")"
	t.Delete = "DELETE FROM " + name + " WHERE " + where
	t.Drop = t.Delete + returningDigest
	set := "digest = excluded.digest"
	for _, c := range cols[keys:] {
		set += ", " + c + " = excluded." + c
	}
	t.Upsert = t.Insert + " ON CONFLICT (" + strings.Join(t.Key, ", ") + ") DO UPDATE SET " + set
	return t
}

// later marks a table that files of this format may lack. Rows are written to it only by
// entries that earlier builds cannot apply, so that all builds have the same digest.
func later(t *Table) *Table {
	t.Later = true
	return t
}

func placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// Querier is what a connection and a transaction have in common.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Statements splits the schema; sqlite_schema keeps each statement as it is
// written there.
func Statements() []string {
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

// AddLater makes the tables that an earlier build of this format did not have. A file
// that it cannot read, or that lacks more than these, is left for verification to report.
func AddLater(ctx context.Context, w *Writer) error {
	if _, err := ReadMeta(ctx, w, w.Dig); err != nil {
		return nil //nolint:nilerr // empty, damaged, or of another format
	}
	have, err := Column[string](ctx, w, "SELECT name FROM sqlite_schema")
	if err != nil {
		return nil //nolint:nilerr // damaged
	}
	var missing []string // statements
	for _, s := range Statements() {
		name := objectName(s)
		switch {
		case slices.Contains(have, name):
		case slices.ContainsFunc(Covered, func(t *Table) bool { return t.Later && t.Name == name }):
			missing = append(missing, s)
		default:
			return nil
		}
	}
	for _, s := range missing {
		if _, err := w.Conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// CheckSchema compares the tables and indexes of the file with those of schema.sql.
// It reports empty for a file that has none at all.
func CheckSchema(ctx context.Context, q Querier) (empty bool, err error) {
	ours := map[string]string{} // name -> statement
	for _, s := range Statements() {
		ours[objectName(s)] = s
	}
	missing := maps.Clone(ours)
	empty = true
	err = Select(ctx, q, func(rows *sql.Rows) error {
		empty = false
		var name, on, sql string
		if err := rows.Scan(&name, &on, &sql); err != nil {
			return err
		}
		switch stmt, known := ours[name]; {
		case known && stmt != sql:
			return Corrupt("%s is not defined as this build defines it", name)
		case known:
			delete(missing, name)
		case sql == "" || strings.HasPrefix(name, "sqlite_") || strings.HasPrefix(on, "items_fts_"):
		case ours[on] != "":
			return Corrupt("%s has a %s that this build did not make", on, name)
		}
		return nil
	}, "SELECT name, tbl_name, coalesce(sql, '') FROM sqlite_schema")
	if err != nil {
		return false, err
	}
	if !empty && len(missing) > 0 {
		return false, Corrupt("%s is missing", strings.Join(conf.SortedKeys(missing), ", "))
	}
	return empty, nil
}

// Corrupt is the error for bytes that are not those which were written.
func Corrupt(format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeCorrupt, "the database is corrupt: "+format, args...).
		WithHint("the agent sets the file aside and rebuilds it from the cluster; alone, start it with ALLOW_AUTO_REBUILD=1 or restore a backup")
}
