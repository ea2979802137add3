package testenv

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// avoided are phrases of docs/design/glossary.md, "Words to avoid", that are wrong in
// every place. Messages that tests and monitors match are texts, not comments, and stay.
var avoided = regexp.MustCompile(`(?i)\b(whoever|anew|for ever|of its own accord|without a word|orderly stop|for a while)\b`)

// unfinished is what marks unfinished work.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// wording returns what a file says that it should say otherwise, by line.
func wording(name, text string) (bad map[int]string) {
	bad = map[int]string{}
	said := prose(text)
	ext := filepath.Ext(name)
	n := 0
	for line := range strings.Lines(text) {
		n++
		if m := unfinished.FindString(line); m != "" {
			bad[n] = m
		}
		words := ""
		switch ext {
		case ".md":
			words = inCode.ReplaceAllString(said[n], "")
		case ".go", ".js", ".mjs", ".sql", ".css":
			if before, comment, ok := strings.Cut(line, "//"); ok && !strings.ContainsAny(before, "\"'`") {
				words = comment
			} else if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, "* ") || strings.HasPrefix(trimmed, "/*") || strings.HasPrefix(trimmed, "--") {
				words = trimmed
			}
		}
		if m := avoided.FindString(words); m != "" {
			bad[n] = m
		}
	}
	return bad
}

// TestWords keeps comments and pages to the words of the glossary, and all files free of
// marks of unfinished work.
func TestWords(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, name := range repositoryFiles(t) {
		switch filepath.Ext(name) {
		case ".go", ".js", ".mjs", ".css", ".sql", ".md", ".yml", ".sh", ".py", "":
		default:
			continue
		}
		if strings.HasPrefix(name, "testenv/testdata/") || name == "docs/design/glossary.md" || name == "testenv/words_test.go" {
			continue // what others wrote, and what names the words
		}
		seen++
		for line, word := range wording(name, readFile(t, name)) {
			t.Errorf("%s:%d: %q is not used here, see docs/design/glossary.md", name, line, word)
		}
	}
	if seen < 500 {
		t.Errorf("looked at only %d files", seen)
	}
	for name, text := range map[string]string{
		"x.go": "package x\n// Whoever asks.", "y.go": "package x\n\nfunc f() {} // signed anew", "x.md": "It is kept for ever.",
		"x.js": "/** of is for a while */", "z.go": "package x // " + "TO" + "DO",
	} {
		if len(wording(name, text)) != 1 {
			t.Errorf("nothing is found in %q", text)
		}
	}
	if bad := wording("x.go", "package x\n\nconst text = \"made anew\" // a text\n"); len(bad) != 0 {
		t.Errorf("found %v in a text", bad)
	}
}
