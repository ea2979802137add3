package store

import (
	"database/sql"
	"testing"
)

// A long transaction of this process is no other process that holds the database.
func TestOwnWriterIsNoOther(t *testing.T) {
	s := openNew(t)
	db, err := sql.Open("sqlite", "file:"+s.file.path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("UPDATE meta SET applied_term = applied_term"); err != nil {
		t.Fatal(err)
	}
	if err := s.HeldByOther(); err != nil {
		t.Error(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}
