package tables

import "strings"

// Window bounds the limit and the offset of a request, here as well as at the edge.
func Window(limit, offset int) (int, int) {
	if limit <= 0 {
		limit = 100
	}
	return min(limit, 1000), max(offset, 0)
}

// Filter collects conditions and the arguments that they need.
type Filter struct {
	conds []string
	Args  []any
}

// Add adds a condition with one argument.
func (f *Filter) Add(cond string, arg any) {
	f.conds = append(f.conds, cond)
	f.Args = append(f.Args, arg)
}

// AddText adds a condition with one argument, unless that is "".
func (f *Filter) AddText(cond, arg string) {
	if arg != "" {
		f.Add(cond, arg)
	}
}

// Where is the WHERE clause, "" without conditions.
func (f *Filter) Where() string {
	if f.conds == nil {
		return ""
	}
	return " WHERE " + strings.Join(f.conds, " AND ")
}

// RetainedTable is a log whose oldest rows are removed.
type RetainedTable struct {
	*Table
	Find  string // ids of the rows before a time, the oldest first, at most so many
	Erase string // the row with this id
}

// The logs whose rows are removed when they are too old.
var (
	RetainedAccess  = retained(AccessLog, 6, "idx_access_log_time")
	RetainedHistory = retained(History, 4, "idx_config_history_time")
)

// retained makes the log that has the time of a row in column at.
func retained(tab *Table, at int, index string) *RetainedTable {
	// The newest row stays, whatever its age: a node that is restored from a
	// snapshot continues with the id behind the highest that it has.
	name, col := tab.Name, tab.Cols[at]
	return &RetainedTable{
		Table: tab,
		Find: "SELECT id FROM " + name + " INDEXED BY " + index + " WHERE " + col + " < ? AND id < (SELECT max(id) FROM " + name + ")" +
			" ORDER BY " + col + ", id LIMIT ?",
		Erase: "DELETE FROM " + name + " WHERE id = ?",
	}
}
