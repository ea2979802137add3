package alarm_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/health.md")

const root = "../.."

// kind is one alarm of table.go.
type kind struct {
	name, text, end, once, level string
}

// kinds reads table.go: its variables cannot be listed at run time.
func kinds(t *testing.T) (out []kind) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "table.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	var value func(e ast.Expr) string
	value = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, _ := strconv.Unquote(e.Value)
			return s
		case *ast.BinaryExpr:
			return value(e.X) + value(e.Y)
		case *ast.Ident:
			return texts[e.Name]
		}
		t.Fatalf("table.go has %T", e)
		return ""
	}
	for _, d := range f.Decls {
		for _, s := range d.(*ast.GenDecl).Specs {
			v := s.(*ast.ValueSpec)
			for i, name := range v.Names {
				lit, ok := v.Values[i].(*ast.UnaryExpr)
				if !ok {
					texts[name.Name] = value(v.Values[i])
					continue
				}
				k := kind{name: name.Name, level: "ERROR"}
				for _, e := range lit.X.(*ast.CompositeLit).Elts {
					kv := e.(*ast.KeyValueExpr)
					switch kv.Key.(*ast.Ident).Name {
					case "Text":
						k.text = value(kv.Value)
					case "End":
						k.end = value(kv.Value)
					case "Once":
						k.once = value(kv.Value)
					case "Warn":
						k.level = "WARN"
					}
				}
				out = append(out, k)
			}
		}
	}
	return out
}

// use is how the product uses the alarms.
type use struct {
	raised, reported, over map[string][]string // packages by kind
	clears                 map[string]bool     // packages that clear something
	bad                    []string            // lines of level ERROR from elsewhere
	tests                  string              // all test files
}

// read reads the tree.
func read(t *testing.T) *use {
	t.Helper()
	u := &use{raised: map[string][]string{}, reported: map[string][]string{}, over: map[string][]string{}, clears: map[string]bool{}}
	var tests strings.Builder
	for _, top := range []string{"agent", "cmd", "localapi", "replication", "testenv"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			switch dir := filepath.ToSlash(filepath.Dir(path)); {
			case strings.HasSuffix(path, "_test.go"):
				tests.Write(src)
			case top != "testenv" && !strings.HasSuffix(dir, "replication/alarm"):
				u.file(t, path, dir, src)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	u.tests = tests.String()
	return u
}

// file reads a file of the product.
func (u *use) file(t *testing.T, path, dir string, src []byte) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "LevelError" {
			u.bad = append(u.bad, set.Position(n.Pos()).String())
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of := func(e ast.Expr) string { // alarm.Name
			if s, ok := e.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "alarm" {
					return s.Sel.Name
				}
			}
			return ""
		}
		switch f.Sel.Name {
		case "Error", "ErrorContext": // that of an error has no arguments, http.Error is a function
			if x, ok := f.X.(*ast.Ident); len(call.Args) > 0 && !(ok && x.Name == "http") {
				u.bad = append(u.bad, set.Position(n.Pos()).String())
			}
		case "Report":
			if k := of(f.X); k != "" {
				u.reported[k] = append(u.reported[k], dir)
			}
		case "Over":
			if k := of(f.X); k != "" {
				u.over[k] = append(u.over[k], dir)
			}
		case "Raise":
			if k := of(call.Args[0]); k != "" {
				u.raised[k] = append(u.raised[k], dir)
			} else {
				u.bad = append(u.bad, set.Position(n.Pos()).String()+": which alarm?")
			}
		case "Clear", "Only":
			u.clears[dir] = true
		}
		return true
	})
}

// faults lists what is wrong with the table and its use.
func (u *use) faults(all []kind) (bad []string) {
	for _, pos := range u.bad {
		bad = append(bad, pos+": a line of level ERROR that is no alarm of the table: see replication/alarm/table.go")
	}
	ended := map[string]bool{} // ends that some part logs
	for _, k := range all {
		if len(u.over[k.name]) > 0 || slices.ContainsFunc(u.raised[k.name], func(dir string) bool { return u.clears[dir] }) {
			ended[k.end] = true
		}
	}
	for _, k := range all {
		switch {
		case k.text == "" || (k.end == "") == (k.once == ""):
			bad = append(bad, k.name+": it needs a text, and either its end or the reason why it has none")
		case len(u.raised[k.name])+len(u.reported[k.name]) == 0:
			bad = append(bad, k.name+": nothing raises it")
		case k.once != "" && len(u.raised[k.name]) > 0:
			bad = append(bad, k.name+": it is raised, and has no end")
		case k.end != "" && !ended[k.end]:
			bad = append(bad, k.name+": nothing logs its end")
		case k.end != "" && !strings.Contains(u.tests, "alarm."+k.name):
			bad = append(bad, k.name+": no test awaits its end")
		}
	}
	return bad
}

// Each line of level ERROR of the product is an alarm of the table, and each alarm has an
// end that something logs and a test awaits, or is an event and says why.
func TestEveryAlarmHasAnEnd(t *testing.T) {
	t.Parallel()
	all, u := kinds(t), read(t)
	if len(all) < 30 {
		t.Fatalf("only %d alarms", len(all))
	}
	for _, bad := range u.faults(all) {
		t.Error(bad)
	}
	// The check itself can fail.
	for _, src := range []string{
		`package p; func f() { s.log.Error("the disk burns", "err", err) }`,
		`package p; func f() { slog.ErrorContext(ctx, "the disk burns") }`,
		`package p; func f() { s.log.Log(ctx, slog.LevelError, "the disk burns") }`,
		`package p; func f() { s.alarms.Raise(mine, "", err) }`,
	} {
		u := &use{clears: map[string]bool{}}
		if u.file(t, "p.go", "p", []byte(src)); len(u.bad) != 1 {
			t.Errorf("the check accepts %s: %v", src, u.bad)
		}
	}
	for _, k := range []kind{{name: "A", text: "x"}, {name: "A", text: "x", end: "y"}, {name: "A", text: "x", end: "y", once: "z"}} {
		if u := (&use{raised: map[string][]string{"A": {"p"}}}); len(u.faults([]kind{k})) == 0 {
			t.Errorf("the check accepts %+v", k)
		}
	}
}

// The page has the table.
func TestDocs(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| the log says | level | and when it is over |\n|---|---|---|\n")
	for _, k := range kinds(t) {
		end := k.end
		if end == "" {
			end = "(once: " + k.once + ")"
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", k.text, k.level, end)
	}
	page := filepath.Join(root, "docs", "health.md")
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(have, []byte("<!-- alarms -->\n"))
	_, after, ok2 := bytes.Cut(rest, []byte("<!-- end of alarms -->"))
	if !ok || !ok2 {
		t.Fatal("docs/health.md has no place for the table")
	}
	want := fmt.Appendf(nil, "%s<!-- alarms -->\n%s<!-- end of alarms -->%s", before, table.String(), after)
	if bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Fatal("the table of docs/health.md is not that of table.go: go test ./replication/alarm -run Docs -update")
	}
	if err := os.WriteFile(page, want, 0o644); err != nil { //nolint:gosec // a page
		t.Fatal(err)
	}
}
