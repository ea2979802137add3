package tables

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
