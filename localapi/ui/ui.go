package ui

import (
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// embeddedSite is made at the first request: an agent that nobody looks at does not pay for
// it, and its start is not delayed.
var embeddedSite = sync.OnceValues(func() (*Site, error) {
	dir, err := fs.Sub(embedded, "assets")
	if err != nil {
		return nil, err
	}
	return load(dir)
})

// Over serves the page, and everything else by next.
func Over(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !read || r.URL.Path != "/" && !strings.HasPrefix(r.URL.Path, prefix) {
			next.ServeHTTP(w, r)
			return
		}
		s, err := embeddedSite()
		if err != nil { // a test loads it
			http.Error(w, "the page is damaged: "+err.Error(), http.StatusInternalServerError)
			return
		}
		s.ServeHTTP(w, r)
	})
}

// ServeHTTP implements http.Handler, for GET and HEAD.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	if r.URL.Path == "/" {
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", s.policy)
		s.page.write(w, r)
		return
	}
	header.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	file := s.files[r.URL.Path]
	if file == nil {
		header.Set("Cache-Control", "no-store") // another version may have it
		http.Error(w, "no such file; load the page anew", http.StatusNotFound)
		return
	}
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	file.write(w, r)
}

func (c *content) write(w http.ResponseWriter, r *http.Request) {
	data, header := c.plain, w.Header()
	header.Set("Content-Type", c.media)
	header.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r) && len(c.gzipped) < len(c.plain) {
		data = c.gzipped
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(data) // fails when the caller has disconnected
	}
}

// acceptsGzip reports whether a client names gzip without a q of zero.
func acceptsGzip(r *http.Request) bool {
	for one := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, q, _ := strings.Cut(strings.ReplaceAll(one, " ", ""), ";")
		if name == "gzip" {
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}
