package store

import (
	"bytes"
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

func alter(t *testing.T, path string, stmts ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range stmts {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// claim makes meta say that the file has format f, with the digest that fits.
func claim(t *testing.T, s *Store, f int) {
	t.Helper()
	vals := s.state.Load().MetaRow()
	vals[0] = int64(f)
	d, err := tables.NewDigester().Row("meta", vals)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.w.Exec(t.Context(), "UPDATE meta SET format = ?, digest = ?", vals[0], d[:]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNewFileHasItsFormat(t *testing.T) {
	s := openNew(t)
	var f int
	if err := s.w.QueryRowContext(t.Context(), "SELECT format FROM meta").Scan(&f); err != nil || f != tables.Format {
		t.Errorf("format %d, %v", f, err)
	}
	var merging string
	q := "SELECT group_concat(k || '=' || v, ' ') FROM (SELECT k, v FROM items_fts_config WHERE k LIKE '%merge' ORDER BY k)"
	if err := s.w.QueryRowContext(t.Context(), q).Scan(&merging); err != nil || merging != "automerge=0 crisismerge=64" {
		t.Errorf("the full-text index has %q, %v", merging, err)
	}
}

// A file of another format is rejected as it is: it is not corrupt, and no byte of
// it changes. Its tables may be others than those of this build.
func TestOtherFormatIsRejected(t *testing.T) {
	newer := []string{"ALTER TABLE members ADD COLUMN zone TEXT", "CREATE INDEX idx_members_zone ON members(zone)"}
	older := []string{"DROP TABLE members", "DROP TABLE keyring", "DROP INDEX idx_access_log_all"}
	for name, c := range map[string]struct {
		format int
		stmts  []string
		hint   string
	}{
		"newer":                        {tables.Format + 1, nil, "update this node"},
		"newer with other tables":      {tables.Format + 1, newer, "update this node"},
		"older":                        {tables.Format - 1, nil, "before the first release"},
		"older with other tables":      {tables.Format - 1, older, "before the first release"},
		"the first of all the formats": {1, older, "before the first release"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := filled(t, 5)
			path := s.file.path
			claim(t, s, c.format)
			alter(t, path, c.stmts...)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), testOptions(path))
			if conf.CodeOf(err) != conf.CodeUnsupported || !strings.Contains(conf.HintOf(err), c.hint) {
				t.Errorf("got %v, hint %q; want %s, hint %q", err, conf.HintOf(err), conf.CodeUnsupported, c.hint)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// The row that names the format is proved like any other.
func TestDamagedFormatIsCorrupt(t *testing.T) {
	s, _ := filled(t, 5)
	path := s.file.path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "UPDATE meta SET format = 2")
	if _, err := Open(t.Context(), testOptions(path)); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("got %v, want %s", err, conf.CodeCorrupt)
	}
}

func TestFormatNeedsItsTables(t *testing.T) {
	without := func(name string, stmts ...string) {
		s := openNew(t)
		newDriver(t, s)
		path := s.file.path
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		alter(t, path, stmts...)
		if _, err := Open(t.Context(), testOptions(path)); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("without %s: %v, want %s", name, err, conf.CodeCorrupt)
		}
	}
	var all []string
	for _, tab := range tables.Covered {
		drop := "DROP TABLE " + tab.Name
		if !tab.Later {
			without(tab.Name, drop)
		}
		all = append(all, drop)
	}
	without("all of them", all...)
}
