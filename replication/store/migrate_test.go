package store

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// format1.db.gz is a database that the last build of format 1 made, after every
// kind of command that it had, and format1.snapshot.gz is its snapshot.
const format1Digest = "ba1c71f5a2185f5d0c223cc1666d29dbf66e041779cd38e440234ca7fc32108a"

func gunzip(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// format1 puts the old database into a new directory, changed by these statements.
func format1(t *testing.T, stmts ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.db")
	if err := os.WriteFile(path, gunzip(t, "format1.db.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	alter(t, path, stmts...)
	return path
}

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

func formatOf(t *testing.T, path string) (f int, members bool) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := "SELECT (SELECT format FROM meta), EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'members')"
	if err := db.QueryRowContext(t.Context(), q).Scan(&f, &members); err != nil {
		t.Fatal(err)
	}
	return f, members
}

func TestOpenBringsFormat1Up(t *testing.T) {
	path := format1(t)
	if f, members := formatOf(t, path); f != 1 || members {
		t.Fatalf("the fixture has format %d, members %v", f, members)
	}
	s := openAt(t, path)
	if s.Digest() != format1Digest {
		t.Errorf("the state digest became %s", s.Digest())
	}
	if f, members := formatOf(t, path); f != format || !members {
		t.Errorf("format %d, members %v after opening", f, members)
	}
	if len(records(t, s)) == 0 || len(items(t, s)) == 0 || len(history(t, s, conf.HistoryFilter{})) == 0 {
		t.Error("content is gone")
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}

	var merging string
	q := "SELECT group_concat(k || '=' || v, ' ') FROM (SELECT k, v FROM items_fts_config WHERE k LIKE '%merge' ORDER BY k)"
	if err := s.w.QueryRowContext(t.Context(), q).Scan(&merging); err != nil || merging != "automerge=0 crisismerge=64" {
		t.Errorf("the full-text index has %q, %v", merging, err)
	}

	// A member that restored the old snapshot is the same, now and later.
	other := openNew(t)
	if err := other.Restore(t.Context(), bytes.NewReader(gunzip(t, "format1.snapshot.gz"))); err != nil {
		t.Fatal(err)
	}
	same(t, "restored from the old snapshot", content(t, s), content(t, other))
	for _, st := range []*Store{s, other} {
		d := newDriver(t, st)
		for _, c := range append(story(d, 40), command.Command(tokens(serverToken("kx", 1))), use(1, "kx", "node-x", "key-x")) {
			d.apply(c)
		}
	}
	same(t, "after more", content(t, s), content(t, other))
	if s.Digest() == format1Digest {
		t.Error("the state digest does not follow")
	}

	want := content(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "after a restart", want, content(t, openAt(t, path)))
}

func TestDamagedFormat1IsNotTouched(t *testing.T) {
	for name, stmt := range map[string]string{
		"a row":           "UPDATE service_configs SET config_json = replace(config_json, '1', '2')",
		"a missing row":   "DELETE FROM access_log WHERE id = (SELECT min(id) FROM access_log)",
		"the format":      "UPDATE meta SET format = 2",
		"a missing table": "DROP TABLE profiles",
		"a foreign table": "CREATE TABLE members (node_id TEXT)",
		"some tables":     tableSQL(t, "members"),
	} {
		t.Run(name, func(t *testing.T) {
			path := format1(t, stmt)
			before, _ := formatOf(t, path)
			_, had := formatOf(t, path)
			_, err := Open(t.Context(), testOptions(path))
			if conf.CodeOf(err) != conf.CodeCorrupt {
				t.Fatalf("got %v, want %s", err, conf.CodeCorrupt)
			}
			if f, members := formatOf(t, path); f != before || members != had {
				t.Errorf("format %d, members %v: the file was changed", f, members)
			}
		})
	}
}

func TestFormatNeedsItsTables(t *testing.T) {
	for _, tab := range tablesOf(format)[len(tablesOf(1)):] {
		s := openNew(t)
		newDriver(t, s)
		path := s.opts.Path
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		alter(t, path, "DROP TABLE "+tab.name)
		if _, err := Open(t.Context(), testOptions(path)); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("without %s: %v, want %s", tab.name, err, conf.CodeCorrupt)
		}
	}
	// Without all of them it looks like format 1 by its tables; meta knows better.
	s := openNew(t)
	newDriver(t, s)
	path := s.opts.Path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "DROP TABLE members", "DROP TABLE join_tokens", "DROP TABLE join_uses", "DROP TABLE api_tokens", "DROP TABLE keyring")
	if _, err := Open(t.Context(), testOptions(path)); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("without all of them: %v, want %s", err, conf.CodeCorrupt)
	}
}

// claim makes meta say that the file has format f, with the digest that fits.
func claim(t *testing.T, s *Store, f int) {
	t.Helper()
	vals := s.state.Load().metaRow()
	vals[0] = int64(f)
	d, err := newDigester().row("meta", vals)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.w.exec(t.Context(), "UPDATE meta SET format = ?, digest = ?", vals[0], d[:]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Rows of the new tables are not proved for format 1, so it must not pass for it.
func TestFormatDoesNotPassForAnOlderOne(t *testing.T) {
	s := openNew(t)
	newDriver(t, s)
	path := s.opts.Path
	for f := 1; f < format; f++ {
		claim(t, s, f)
		if _, err := Open(t.Context(), testOptions(path)); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("as format %d: %v, want %s", f, err, conf.CodeCorrupt)
		}
		if f+1 < format {
			s = openNew(t)
			newDriver(t, s)
			path = s.opts.Path
		}
	}
}

func TestNewerFormatIsNotCorrupt(t *testing.T) {
	s := openNew(t)
	newDriver(t, s)
	claim(t, s, format+1)
	path := s.opts.Path
	alter(t, path, "ALTER TABLE members ADD COLUMN zone TEXT", "CREATE INDEX idx_members_zone ON members(zone)")
	if _, err := Open(t.Context(), testOptions(path)); conf.CodeOf(err) != conf.CodeUnsupported || conf.HintOf(err) == "" {
		t.Errorf("got %v, want %s", err, conf.CodeUnsupported)
	}
}

func tableSQL(t *testing.T, name string) string {
	t.Helper()
	for _, s := range statements(format) {
		if objectName(s) == name {
			return s
		}
	}
	t.Fatalf("no table %s", name)
	return ""
}
