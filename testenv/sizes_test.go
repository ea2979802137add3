package testenv

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// How much one place may hold before it wants parts.
const (
	maxPackageLines = 3500 // of product code
	maxMethods      = 30   // of a type
	maxFields       = 20   // of a type
)

// sizeExceptions are the types over a limit, each with its reason. There are few.
var sizeExceptions = map[string]string{
	"localapi/admin.Options": "one field a part of the API, each with its own interface",
}

// bulk is what a type of ours has.
type bulk struct{ methods, fields int }

// measure reads the product files of a package: its own lines, and the methods and fields
// of each of its types.
func measure(pkg string, files map[string][]byte) (lines int, types map[string]bulk, err error) {
	types = map[string]bulk{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		lines += bytes.Count(files[name], []byte("\n"))
		f, err := parser.ParseFile(token.NewFileSet(), name, files[name], parser.SkipObjectResolution)
		if err != nil {
			return 0, nil, err
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					key := pkg + "." + receiver(d.Recv.List[0].Type)
					s := types[key]
					s.methods++
					types[key] = s
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					t, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					st, ok := t.Type.(*ast.StructType)
					if !ok {
						continue
					}
					key := pkg + "." + t.Name.Name
					s := types[key]
					for _, field := range st.Fields.List {
						s.fields += max(1, len(field.Names))
					}
					types[key] = s
				}
			}
		}
	}
	return lines, types, nil
}

func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return "?"
}

// oversized lists what is over a limit, and used tells which exceptions were needed.
func oversized(pkg string, files map[string][]byte, used map[string]bool) (bad []string) {
	lines, types, err := measure(pkg, files)
	if err != nil {
		return []string{err.Error()}
	}
	if lines > maxPackageLines {
		bad = append(bad, fmt.Sprintf("%s has %d lines, the limit is %d: cut a package out of it", pkg, lines, maxPackageLines))
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		s := types[name]
		if s.methods <= maxMethods && s.fields <= maxFields {
			continue
		}
		if _, ok := sizeExceptions[name]; ok {
			used[name] = true
			continue
		}
		bad = append(bad, fmt.Sprintf("%s has %d methods and %d fields, the limits are %d and %d: find its parts", name, s.methods, s.fields, maxMethods, maxFields))
	}
	return bad
}

// TestSizes keeps packages and types from growing into halls.
func TestSizes(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.ours(), "testenv") {
			continue // not product code
		}
		files := map[string][]byte{}
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			data, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = data
		}
		for _, bad := range oversized(p.ours(), files, used) {
			t.Error(bad)
		}
	}
	for name, why := range sizeExceptions {
		if !used[name] || why == "" {
			t.Errorf("the exception of %s is not needed, or has no reason: remove it", name)
		}
	}
	// The check itself can fail.
	for _, text := range []string{
		"package x\n" + strings.Repeat("\n", maxPackageLines),
		"package x\ntype t struct{}\n" + strings.Repeat("func (t) m() {}\n", maxMethods+1),
		"package x\ntype t struct{\n" + strings.Repeat("_ int\n", maxFields+1) + "}\n",
		"package x\ntype t[A any] struct{}\n" + strings.Repeat("func (*t[A]) m() {}\n", maxMethods+1),
	} {
		if oversized("x", map[string][]byte{"x.go": []byte(text)}, map[string]bool{}) == nil {
			t.Errorf("nothing is found in %.40q", text)
		}
	}
}
