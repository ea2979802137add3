package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

//go:embed assets
var embedded embed.FS

// bare are the modules that others import by a name instead of a path.
var bare = map[string]string{
	"preact": "vendor/preact.module.js", "preact/hooks": "vendor/hooks.module.js", "htm": "vendor/htm.module.js",
}

// types are the media types of the files that are served. Any other file, such as a
// license, is in the binary and not on the page.
var types = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

// prefix is where the files are.
const prefix = "/ui/"

// content is one response body, compressed once.
type content struct {
	plain, gzipped []byte
	media          string
}

// Site has all that is served.
type Site struct {
	page   content
	policy string              // the content security policy of the page
	files  map[string]*content // by the URL path
}

// load makes a site of a directory with index.html, app.js, page.css, icons.svg, icon.svg
// and the modules.
func load(dir fs.FS) (*Site, error) {
	s := &Site{files: map[string]*content{}}
	urls := map[string]string{} // the hashed URL of each file
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		media := types[path.Ext(name)]
		if err != nil || d.IsDir() || media == "" {
			return err
		}
		data, err := fs.ReadFile(dir, name)
		if err != nil {
			return err
		}
		urls[name] = hashed(name, data)
		s.files[urls[name]] = newContent(data, media)
		return nil
	})
	if err != nil {
		return nil, err
	}
	imports := map[string]string{}
	for _, name := range []string{"app.js", "page.css", "icons.svg", "icon.svg"} {
		if urls[name] == "" {
			return nil, fmt.Errorf("the page has no %s", name)
		}
	}
	for name, file := range bare {
		if urls[file] == "" {
			return nil, fmt.Errorf("the page has no %s", file)
		}
		imports[name] = urls[file]
	}
	for name, url := range urls {
		if path.Ext(name) == ".js" {
			imports[prefix+name] = url
		}
	}
	importMap, err := json.Marshal(map[string]any{"imports": imports}) // its keys are sorted, and it escapes < and >
	if err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(dir, "index.html")
	if err != nil {
		return nil, err
	}
	first := map[string]bool{}
	if err := follow(dir, "app.js", first); err != nil {
		return nil, err
	}
	for _, file := range bare {
		first[file] = true
	}
	page, err := render(string(text), importMap, urls, first)
	if err != nil {
		return nil, err
	}
	s.page = *newContent(page, "text/html; charset=utf-8")
	sum := sha256.Sum256(importMap)
	s.policy = "default-src 'none'; script-src 'self' 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; style-src 'self'; " +
		"img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'; trusted-types 'none'"
	return s, nil
}

// render fills in the template of the page.
func render(text string, importMap []byte, urls map[string]string, first map[string]bool) ([]byte, error) {
	t, err := template.New("index.html").Parse(text)
	if err != nil {
		return nil, err
	}
	var modules []string // in one go instead of one round trip a level
	for _, name := range slices.Sorted(maps.Keys(first)) {
		modules = append(modules, urls[name])
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Icons": urls["icons.svg"], "Icon": urls["icon.svg"], "Stylesheet": urls["page.css"], "App": urls["app.js"], "Modules": modules,
		"ImportMap": template.HTML(`<script type="importmap">` + string(importMap) + `</script>`), //nolint:gosec // made of names of embedded files
	})
	return out.Bytes(), err
}

// imported matches what a module needs before it runs. What it fetches by a call is not needed first.
var imported = regexp.MustCompile(`(?m)^(?:import|export) (?:[^;]*? from )?'(\.[^']+)';`)

// follow adds a module, and all that it imports, to what the first load needs.
func follow(dir fs.FS, name string, first map[string]bool) error {
	if first[name] {
		return nil
	}
	first[name] = true
	text, err := fs.ReadFile(dir, name)
	if err != nil {
		return err
	}
	for _, m := range imported.FindAllSubmatch(text, -1) {
		if err := follow(dir, path.Join(path.Dir(name), string(m[1])), first); err != nil {
			return fmt.Errorf("imported by %s: %w", name, err)
		}
	}
	return nil
}

// hashed is the URL of a file: lib/diff.js becomes /ui/lib/diff.HASH.js.
func hashed(name string, data []byte) string {
	sum := sha256.Sum256(data)
	ext := path.Ext(name)
	return prefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:8]) + ext
}

func newContent(data []byte, media string) *content {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(data)                                  // a buffer takes everything
	_ = z.Close()
	return &content{plain: data, gzipped: b.Bytes(), media: media}
}
