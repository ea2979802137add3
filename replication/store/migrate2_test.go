package store

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
)

// downgrade makes the file of a store what the last build of format 2 would have
// made: nothing is in the tables that it did not have.
func downgrade(t *testing.T, s *Store) string {
	t.Helper()
	path := s.opts.Path
	claim(t, s, 2)
	old, now := objects(2), objects(format)
	var stmts []string
	for _, stmt := range statements(format) {
		name := objectName(stmt)
		if old[name] == stmt {
			continue
		}
		kind := "TABLE "
		if strings.HasPrefix(stmt, "CREATE INDEX") {
			kind = "INDEX "
		}
		stmts = append(stmts, "DROP "+kind+name)
	}
	for _, stmt := range statements(2) {
		if now[objectName(stmt)] != stmt {
			stmts = append(stmts, stmt)
		}
	}
	alter(t, path, stmts...)
	return path
}

func TestOpenBringsFormat2Up(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	for _, c := range append(story(d, 60), command.Command(tokens(serverToken("kx", 1))), use(1, "kx", "node-x", "key-x")) {
		if keepsFormat2(c) {
			d.apply(c)
		}
	}
	for _, tab := range covered[len(tablesOf(2)):] {
		var n int
		if err := s.w.QueryRowContext(t.Context(), "SELECT count(*) FROM "+tab.name).Scan(&n); err != nil || n > 0 {
			t.Fatalf("%s has %d rows, %v", tab.name, n, err)
		}
	}
	want := content(t, s)

	// What a member of that format sent has its tables only.
	all := covered
	covered = tablesOf(2)
	sn, err := s.Snapshot(t.Context())
	var stream bytes.Buffer
	if err == nil {
		_, err = sn.WriteTo(&stream)
		_ = sn.Close()
	}
	covered = all
	if err != nil {
		t.Fatal(err)
	}
	other := openNew(t)
	if err := other.Restore(t.Context(), &stream); err != nil {
		t.Fatal(err)
	}
	same(t, "restored from a snapshot of format 2", want, content(t, other))

	path := downgrade(t, s)
	if f, _ := formatOf(t, path); f != 2 {
		t.Fatalf("format %d", f)
	}
	up := openAt(t, path)
	same(t, "brought up from format 2", want, content(t, up))
	if err := up.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	for _, st := range []*Store{up, other} {
		d := newDriver(t, st)
		for _, c := range story(d, 60) {
			d.apply(c)
		}
		d.apply(&command.Prune{At: at(900), Access: at(5), History: at(5), Limit: 100})
	}
	same(t, "after more, and retention", content(t, up), content(t, other))
}

func keepsFormat2(c command.Command) bool {
	switch c := c.(type) {
	case *command.APITokens, *command.Keyring:
		return false
	case *command.Audit:
		return c.Source == ""
	case *command.Genesis:
		return c.Signed == nil
	}
	return true
}
