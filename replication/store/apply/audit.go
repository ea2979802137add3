package apply

import (
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// audit adds rows to the access log.
func (t *tx) audit(rows []conf.Access) error {
	for _, r := range rows {
		if err := t.insert(tables.AccessLog, tables.Null(r.UserID), r.Action, tables.Null(r.Service), tables.Null(r.Key), tables.Bit(r.Success), tables.Null(r.Reason), r.Timestamp); err != nil {
			return err
		}
	}
	return nil
}

// auditBatch adds the rows of one agent's queue, unless they were added before.
func (t *tx) auditBatch(c *command.Audit) error {
	if c.Source == "" {
		return t.audit(c.Rows)
	}
	old, err := t.read(tables.AuditSources, c.Source)
	if err != nil {
		return err
	}
	if old != nil && tables.UintOf(old.Vals[1]) >= c.Seq {
		return nil
	}
	at := "" // an empty batch only moves the number on
	if n := len(c.Rows); n > 0 {
		at = c.Rows[n-1].Timestamp
	}
	if err := t.upsert(tables.AuditSources, old, c.Source, int64(c.Seq), at); err != nil { //nolint:gosec // counts batches
		return err
	}
	return t.audit(c.Rows)
}

// prune removes the oldest rows. Which they are depends on the rows only: equal times
// are in the order of the log, which is the same on every node.
func (t *tx) prune(c *command.Prune) error {
	if c.Access != "" {
		if err := t.pruneLog(tables.RetainedAccess, c.Access, c.Limit); err != nil {
			return err
		}
		if err := t.pruneSources(c.Access, c.Limit); err != nil {
			return err
		}
	}
	if c.History != "" {
		return t.pruneLog(tables.RetainedHistory, c.History, c.Limit)
	}
	return nil
}

func (t *tx) pruneLog(l *tables.RetainedTable, before string, limit int) error {
	ids, err := tables.Column[int64](t.ctx, t.w, l.Find, before, limit)
	if err != nil {
		return err
	}
	for _, id := range ids {
		d, err := tables.ReadID(t.ctx, t.w, t.dig, l.Table, id)
		if err != nil {
			return err
		}
		t.st.Digest.Sub(d)
		if err := t.w.Exec(t.ctx, l.Erase, id); err != nil {
			return err
		}
	}
	return nil
}

// pruneSources removes queues without a batch for as long as rows are stored.
func (t *tx) pruneSources(before string, limit int) error {
	names, err := tables.Column[string](t.ctx, t.w, "SELECT source FROM audit_sources WHERE at < ? ORDER BY at, source LIMIT ?", before, limit)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.remove(tables.AuditSources, name); err != nil {
			return err
		}
	}
	return nil
}
