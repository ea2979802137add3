package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// get asks the handler that agents use, with another one below it.
func get(t *testing.T, method, path string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	Over(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var importMapTag = regexp.MustCompile(`<script type="importmap">(.*)</script>`)

func TestPage(t *testing.T) {
	t.Parallel()
	r := get(t, "GET", "/")
	page := bodyOf(t, r)
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/html; charset=utf-8" || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", r.StatusCode, r.Header)
	}
	for k, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := r.Header.Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	m := importMapTag.FindSubmatch(page)
	if m == nil {
		t.Fatalf("no import map in %s", page)
	}
	sum := sha256.Sum256(m[1])
	want := "default-src 'none'; script-src 'self' 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; style-src 'self'; " +
		"img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'; trusted-types 'none'"
	if got := r.Header.Get("Content-Security-Policy"); got != want {
		t.Errorf("policy\n%s, want\n%s", got, want)
	}
	if bytes.Contains(page, []byte("ZgotmplZ")) {
		t.Errorf("a placeholder of the template engine is in the page: %s", page)
	}
}

// TestFiles loads all that the page names, as a browser does at its first visit.
func TestFiles(t *testing.T) {
	t.Parallel()
	r := get(t, "GET", "/", "Accept-Encoding", "gzip, deflate, br")
	packed := bodyOf(t, r)
	if r.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("the page is not compressed")
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Imports map[string]string }
	if err := json.Unmarshal(importMapTag.FindSubmatch(page)[1], &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"preact", "preact/hooks", "htm", "/ui/app.js", "/ui/vendor/preact.module.js"} {
		if m.Imports[name] == "" {
			t.Errorf("the import map does not have %s", name)
		}
	}
	urls := map[string]bool{}
	for _, s := range regexp.MustCompile(`(?:href|src|data-icons)="(/ui/[a-z0-9/._-]+\.[0-9a-f]{16}\.[a-z]+)"`).FindAllStringSubmatch(string(page), -1) {
		urls[s[1]] = true
	}
	for _, want := range []string{"/ui/app.", "/ui/page.", "/ui/icons.", "/ui/icon.", "/ui/views/service-edit.", "/ui/vendor/hooks."} {
		found := false
		for u := range urls {
			found = found || strings.HasPrefix(u, want)
		}
		if !found {
			t.Errorf("the page does not load %s*", want)
		}
	}
	for u := range urls {
		if strings.HasPrefix(u, "/ui/views/cluster") {
			t.Errorf("the page loads %s first, which few people open", u)
		}
	}
	total := len(packed)
	for u := range urls {
		r := get(t, "GET", u, "Accept-Encoding", "gzip")
		body := bodyOf(t, r)
		total += len(body)
		if r.StatusCode != 200 || r.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", u, r.StatusCode, r.Header)
		}
		if h := get(t, "HEAD", u, "Accept-Encoding", "gzip"); h.ContentLength != 0 && h.Header.Get("Content-Length") != r.Header.Get("Content-Length") || len(bodyOf(t, h)) != 0 {
			t.Errorf("HEAD %s: %v", u, h.Header)
		}
	}
	t.Logf("the first load is %d bytes in %d files", total, len(urls)+1)
	if total > 150_000 {
		t.Errorf("the first load is %d bytes, over the limit of 150 KB", total)
	}
}

func TestOtherPaths(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/ui/app.js", 404}, // only hashed names may be cached permanently
		{"GET", "/ui/app.0000000000000000.js", 404},
		{"GET", "/ui/", 404},
		{"GET", "/ui/vendor/LICENSE.htm", 404},
		{"GET", "/api/config/health", http.StatusTeapot},
		{"GET", "/index.html", http.StatusTeapot},
		{"POST", "/", http.StatusTeapot},
	} {
		r := get(t, tc.method, tc.path)
		if r.StatusCode != tc.want {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, r.StatusCode, tc.want)
		}
		if strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s %s may be kept: %v", tc.method, tc.path, r.Header)
		}
	}
}

// TestNamesFollowContent holds that no browser uses an old file with a new page.
func TestNamesFollowContent(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{
		"index.html": {Data: []byte(`{{.ImportMap}}<script src="{{.App}}"></script>`)},
		"app.js":     {Data: []byte("1")}, "page.css": {Data: []byte("a{}")}, "icons.svg": {Data: []byte("<svg/>")}, "icon.svg": {Data: []byte("<svg/>")},
	}
	for _, file := range bare {
		dir[file] = &fstest.MapFile{Data: []byte(file)}
	}
	before, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	dir["app.js"] = &fstest.MapFile{Data: []byte("2")}
	after, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(before.page.plain, after.page.plain) || before.policy == after.policy {
		t.Error("another app.js has the same name")
	}
	delete(dir, "icons.svg")
	if _, err := load(dir); err == nil {
		t.Error("a page without icons is accepted")
	}
}
