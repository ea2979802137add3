package tables

import (
	"context"
	"database/sql"
)

// Writer is the one connection that writes. Its statements are prepared once:
// otherwise parsing them costs more than a small batch.
type Writer struct {
	db    *sql.DB
	Conn  *sql.Conn
	stmts map[string]*sql.Stmt

	Dig *Digester // of its user
}

// OpenWriter opens the connection of the database with this URI.
func OpenWriter(ctx context.Context, dsn string) (*Writer, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &Writer{db: db, Conn: conn, stmts: map[string]*sql.Stmt{}, Dig: NewDigester()}, nil
}

func (w *Writer) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := w.stmts[query]; ok {
		return st, nil
	}
	st, err := w.Conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = st
	return st, nil
}

// Exec runs a statement.
func (w *Writer) Exec(ctx context.Context, query string, args ...any) error {
	_, err := w.exec(ctx, query, args...)
	return err
}

// Insert runs an INSERT and returns the rowid.
func (w *Writer) Insert(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := w.exec(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (w *Writer) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

// QueryContext is Querier's, on a prepared statement.
func (w *Writer) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// QueryRowContext is Querier's, on a prepared statement.
func (w *Writer) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	st, err := w.stmt(ctx, query)
	if err != nil {
		return w.Conn.QueryRowContext(ctx, query, args...) // fails the same way, inside the Row
	}
	return st.QueryRowContext(ctx, args...)
}

// Close closes the connection.
func (w *Writer) Close() error {
	for _, st := range w.stmts {
		_ = st.Close()
	}
	err := w.Conn.Close()
	if e := w.db.Close(); err == nil {
		err = e
	}
	return err
}

// Transact runs f between BEGIN IMMEDIATE and COMMIT; any error rolls back.
func (w *Writer) Transact(ctx context.Context, f func() error) error {
	if err := w.Exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := f(); err != nil {
		w.Rollback(ctx)
		return err
	}
	if err := w.Exec(ctx, "COMMIT"); err != nil {
		w.Rollback(ctx)
		return err
	}
	return nil
}

// Rollback ends the transaction. SQLite may have ended it by itself after a full
// disk or an I/O error; then it does nothing.
func (w *Writer) Rollback(ctx context.Context) { _ = w.Exec(ctx, "ROLLBACK") }
