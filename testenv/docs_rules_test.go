package testenv

import (
	"flag"
	"fmt"
	"go/doc"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var updatePages = flag.Bool("update", false, "update the table of packages in docs/design/architecture.md")

const maxColumns = 120

// repositoryFiles lists the files that git knows or would add, by their paths from
// the root, as far as they exist.
func repositoryFiles(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = Root()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []string
	for _, name := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if _, err := os.Stat(filepath.Join(Root(), name)); err == nil {
			files = append(files, name)
		}
	}
	return files
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// prose returns the lines of a Markdown text that are neither in a code block nor
// in a table, by their numbers.
func prose(text string) map[int]string {
	lines := map[int]string{}
	fence := ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
			fence = trimmed[:3]
		case !strings.HasPrefix(trimmed, "|"):
			lines[n] = strings.TrimRight(line, "\n")
		}
	}
	return lines
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inCode = regexp.MustCompile("`[^`]*`")
)

// anchors are the names by which GitHub links to the headings of a page.
func anchors(text string) map[string]bool {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	found := map[string]bool{}
	for _, line := range prose(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			name := strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
			for n, base := 1, name; found[name]; n++ {
				name = fmt.Sprintf("%s-%d", base, n)
			}
			found[name] = true
		}
	}
	return found
}

// checkPage returns the lines of prose of a page that are too long, and its links
// that lead nowhere. read returns the text of a file, false when there is none.
func checkPage(name, text string, read func(name string) (string, bool)) (bad []string) {
	var outside strings.Builder // tables included, code blocks not
	lines := prose(text)
	for n, line := range strings.Split(text, "\n") {
		if _, ok := lines[n+1]; ok || strings.HasPrefix(strings.TrimSpace(line), "|") {
			outside.WriteString(line + "\n")
		}
		if columns := utf8.RuneCountInString(lines[n+1]); columns > maxColumns {
			bad = append(bad, fmt.Sprintf("line %d has %d columns, the limit is %d", n+1, columns, maxColumns))
		}
	}
	for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(outside.String(), ""), -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		page := text
		if target != "" {
			var ok bool
			if page, ok = read(filepath.Join(filepath.Dir(name), target)); !ok {
				bad = append(bad, "links to "+m[1]+", which does not exist")
				continue
			}
		}
		if anchor != "" && strings.HasSuffix(target, ".md") == (target != "") && !anchors(page)[anchor] {
			bad = append(bad, "links to "+m[1]+", a heading that does not exist")
		}
	}
	return bad
}

// TestPages checks every Markdown file of the repository: no line of prose is longer
// than 120 columns, and every relative link leads to a file and a heading.
func TestPages(t *testing.T) {
	t.Parallel()
	read := func(name string) (string, bool) {
		path := filepath.Join(Root(), name)
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return "", err == nil
		}
		data, err := os.ReadFile(path)
		return string(data), err == nil
	}
	pages := 0
	for _, name := range repositoryFiles(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		pages++
		for _, bad := range checkPage(name, readFile(t, name), read) {
			t.Errorf("%s: %s", name, bad)
		}
	}
	if pages < 10 {
		t.Errorf("found only %d pages", pages)
	}
	// The check itself can fail.
	for _, text := range []string{
		strings.Repeat("é", maxColumns+1),
		"[a](no-such-file.md)",
		"# There\n\n| [a](#elsewhere) |",
		"[a](README.md#no-such-heading)",
	} {
		if checkPage("x.md", text, read) == nil {
			t.Errorf("the check finds nothing in %.40q", text)
		}
	}
	ok := "# One `two`-three\n\n[a](#one-two-three)\n\n| " + strings.Repeat("a", maxColumns) + " |\n\n```\n[b](nowhere)" + strings.Repeat("a", maxColumns) + "\n```\n"
	if bad := checkPage("x.md", ok, read); bad != nil {
		t.Errorf("the check finds %q in a good page", bad)
	}
}

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Z][A-Za-z0-9_]*)`")
	namedFile = regexp.MustCompile("`((?:agent|cmd|docs|localapi|replication|testenv)/[A-Za-z0-9_./-]+\\.(?:go|sql|md|yml|json))`")
)

// TestDesignPagesNameWhatExists checks that each test and each source file that a
// page of docs/design names exists.
func TestDesignPagesNameWhatExists(t *testing.T) {
	t.Parallel()
	tests, files := map[string]bool{}, map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)[A-Z]\w*)\(`)
	all := repositoryFiles(t)
	for _, name := range all {
		files[name] = true
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(readFile(t, name), -1) {
				tests[m[1]] = true
			}
		}
	}
	named := 0
	for _, name := range all {
		if !strings.HasPrefix(name, "docs/design/") {
			continue
		}
		text := readFile(t, name)
		for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
			named++
			if !tests[m[1]] {
				t.Errorf("%s: there is no test %s", name, m[1])
			}
		}
		for _, m := range namedFile.FindAllStringSubmatch(text, -1) {
			named++
			if !files[m[1]] {
				t.Errorf("%s: there is no file %s", name, m[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("the pages of docs/design name only %d files and tests", named)
	}
}

// TestPackageTable compares the table of packages in docs/design/architecture.md with
// the packages and the table of layers.
func TestPackageTable(t *testing.T) {
	t.Parallel()
	const page, begin, end = "docs/design/architecture.md", "<!-- packages: ", "<!-- /packages -->"
	text := readFile(t, page)
	i, j := strings.Index(text, begin), strings.Index(text, end)
	if i < 0 || j < i {
		t.Fatalf("%s has no place for the table", page)
	}
	i += strings.IndexByte(text[i:], '\n') + 1
	want := text[:i] + packageTable(t) + text[j:]
	if *updatePages {
		if err := os.WriteFile(filepath.Join(Root(), page), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if text != want {
		t.Errorf("the table of %s is not that of the code: run go test ./testenv -run TestPackageTable -update", page)
	}
}

// packageTable has a row for each package of the product: what it is for, which
// packages of ours and which libraries it may import.
func packageTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("\n| package | what it is for | may import | libraries |\n|---|---|---|---|\n")
	for _, p := range listPackages(t) {
		name := p.ours()
		if strings.HasPrefix(name, "testenv") {
			continue
		}
		var libraries []string
		for _, lib := range slices.Sorted(maps.Keys(owners)) {
			if slices.Contains(owners[lib], name) {
				libraries = append(libraries, strings.TrimPrefix(lib, "github.com/"))
			}
		}
		purpose := regexp.MustCompile(`^(?:Package|Command) \w+ (?:is |)`).ReplaceAllString(new(doc.Package).Synopsis(p.Doc), "")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.TrimSuffix(purpose, "."),
			strings.Join(layers[name], ", "), strings.Join(libraries, ", "))
	}
	b.WriteString("\n`testenv` and its parts may import `agent`, `localapi/client` and some of `replication`.\n\n")
	return b.String()
}

// TestPagesAskNoProxyForLocalhost: curl and Python ask the proxy of the environment for
// localhost too, and a person behind a proxy copies the lines.
func TestPagesAskNoProxyForLocalhost(t *testing.T) {
	t.Parallel()
	loopback := regexp.MustCompile(`(127\.0\.0\.1|localhost)[:/]`)
	commands := 0
	for _, name := range repositoryFiles(t) {
		if ext := filepath.Ext(name); (ext != ".md" && ext != ".sh" && ext != ".py") || strings.HasPrefix(name, "testenv/testdata/") {
			continue // testdata has what others wrote
		}
		text := strings.ReplaceAll(readFile(t, name), "\\\n", " ")
		for line := range strings.Lines(text) {
			_, command, ok := strings.Cut(line, "curl ")
			if ok && loopback.MatchString(command) && !strings.Contains(command, "--unix-socket") {
				if commands++; !strings.Contains(command, "--noproxy '*'") {
					t.Errorf("%s: without --noproxy '*': %s", name, line)
				}
			}
			if strings.Contains(line, "urlopen(") {
				t.Errorf("%s: use an opener with ProxyHandler({}): %s", name, line)
			}
		}
		if strings.Contains(text, "curl ") && strings.Contains(text, " $API/") && !strings.Contains(text, "export NO_PROXY=localhost,127.0.0.1") {
			t.Errorf("%s: curl asks a proxy for $API", name)
		}
	}
	if commands < 20 {
		t.Errorf("found only %d commands", commands)
	}
}
