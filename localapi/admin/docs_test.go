package admin_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

var update = flag.Bool("update", false, "write the table of docs/security.md")

const tableBegin, tableEnd = "<!-- routes: made by go test ./localapi/admin -run TestAccessTable -update -->\n", "<!-- end of the routes -->\n"

// TestAccessTable holds the table of docs/security.md against the table of routes.
func TestAccessTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("\n| route | no, wrong, expired or revoked token | `config.report` | `config.read` | `config.write` |\n|---|---|---|---|---|\n")
	for _, r := range admin.Routes() {
		none, reports, read := "401", "403", "403"
		switch {
		case r.Role == "":
			none, reports, read = "yes", "yes", "yes"
		case conf.RoleRead.Allows(r.Role):
			read = "yes"
		case conf.RoleReport.Allows(r.Role):
			reports = "yes"
		}
		fmt.Fprintf(&b, "| `%s %s` | %s | %s | %s | yes |\n", r.Method, r.Path, none, reports, read)
	}
	b.WriteString("| anything else | 401 | 403 | 404 or 405 | 404 or 405 |\n\n")
	path := "../../docs/security.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), tableBegin)
	table, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatal("docs/security.md has no place for the table")
	}
	if table == b.String() {
		return
	}
	if !*update {
		t.Fatal("the table of docs/security.md is not that of the routes: go test ./localapi/admin -run TestAccessTable -update")
	}
	if err := os.WriteFile(path, []byte(before+tableBegin+b.String()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
