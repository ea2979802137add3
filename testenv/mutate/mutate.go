package mutate

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
)

// Seed is a request to begin with.
type Seed struct {
	Method, Target, Body string
	Header               []string // "Name: value"
}

// Mutator changes requests at random.
type Mutator struct {
	rng   *rand.Rand
	seeds []Seed
}

// New makes a mutator of these requests.
func New(seed uint64, seeds []Seed) *Mutator {
	return &Mutator{rng: rand.New(rand.NewPCG(seed, 1)), seeds: seeds}
}

// bits are what parsers are known to trip over.
var bits = []string{
	"null", "true", "-0", "1e309", "9007199254740993", "18446744073709551616", "-1", "0.1", `""`, "[]", "{}", `{"a":`, "]", "}", ",", ":", `"`, `\`, `\u0000`,
	`\ud800`, "\x00", "\xff", "\xc0\x80", "\u2028", "\ufeff", "%", "%2f", "%00", "%25", "..", "//", "/", "?", "&", "=", ";", "#", " ", "\t", "\n", "'", "--", "<script>",
	`{"a":1,"a":2}`, "__proto__", "$ref", "x-secret", "stt-worker", "version", "NaN", "Infinity", "0x10", "01", "+1", "*", "\u202e", strings.Repeat("[", 40),
	strings.Repeat(`{"a":`, 40), strings.Repeat("9", 400), strings.Repeat("a", 300), "2026-01-02T03:04:05Z", "9999-99-99T99:99:99Z", "720h", "-1h",
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"}

var headers = []string{
	"Content-Type: application/json", "Content-Type: text/plain", "Content-Type: application/merge-patch+json", "Content-Type: ;;;", "Content-Encoding: gzip",
	`If-Match: "5"`, "If-Match: *", `If-Match: "5-550e8400-0123456789abcdef"`, `If-None-Match: "x", W/"y"`, "If-None-Match: *", "Idempotency-Key: k", "Idempotency-Key: \t",
	"X-Config-Reason: why", "Origin: null", "Origin: http://example.com", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", "Cookie: holdfast_session=x",
	"Cookie: =;=;", "X-Forwarded-For: 1.2.3.4", "Accept: text/event-stream", "Last-Event-ID: -1", "Last-Event-ID: 99999999999999999999", "Range: bytes=0-", "Expect: 100-continue",
	"X-API-Token: hfa_0123456789ab_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "X-API-Token: \x7f", "X-Holdfast-Token: x", "Upgrade: websocket", "Host: evil.example", "TE: trailers",
}

// text changes one text a little, or a lot.
func (m *Mutator) text(s string) string {
	b := []byte(s)
	for range 1 + m.rng.IntN(3) {
		at := m.rng.IntN(len(b) + 1)
		switch m.rng.IntN(6) {
		case 0: // a bit flips
			if at < len(b) {
				b[at] ^= 1 << m.rng.IntN(8)
			}
		case 1: // the end is missing
			b = b[:at]
		case 2: // something comes in between
			b = bytes.Join([][]byte{b[:at], b[at:]}, []byte(bits[m.rng.IntN(len(bits))]))
		case 3: // something takes the place of something
			end := min(len(b), at+m.rng.IntN(12))
			b = bytes.Join([][]byte{b[:at], b[end:]}, []byte(bits[m.rng.IntN(len(bits))]))
		case 4: // a piece comes twice
			end := min(len(b), at+m.rng.IntN(30))
			b = bytes.Join([][]byte{b[:end], b[at:]}, nil)
		case 5: // a piece is gone
			end := min(len(b), at+m.rng.IntN(12))
			b = append(b[:at:at], b[end:]...)
		}
	}
	return string(b)
}

// Next is the next request. Now and then it is one of the seeds as it was.
func (m *Mutator) Next(ctx context.Context) *http.Request {
	s := m.seeds[m.rng.IntN(len(m.seeds))]
	head := append([]string(nil), s.Header...)
	for range m.rng.IntN(4) {
		switch m.rng.IntN(8) {
		case 0:
			s.Method = methods[m.rng.IntN(len(methods))]
		case 1, 2:
			s.Target = m.text(s.Target)
		case 3:
			s.Target += "?" + m.text("consistent=1&limit=10&since=2026-01-02T03:04:05Z&version=3&wait=1ms&raw")
		case 4:
			head = append(head, headers[m.rng.IntN(len(headers))])
		case 5:
			if len(head) > 0 {
				i := m.rng.IntN(len(head))
				name, value, _ := strings.Cut(head[i], ": ")
				head[i] = name + ": " + m.text(value)
			}
		default:
			s.Body = m.text(s.Body)
		}
	}
	r := httptest.NewRequestWithContext(ctx, "GET", "/", strings.NewReader(s.Body))
	r.Method = s.Method
	r.URL = target(s.Target)
	r.RequestURI = r.URL.RequestURI()
	for _, h := range head {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	if m.rng.IntN(8) == 0 {
		r.ContentLength = -1 // chunked
	}
	return r
}

// target is what net/http would make of a request line, as far as it takes it.
func target(s string) *url.URL {
	if u, err := url.ParseRequestURI(s); err == nil && strings.HasPrefix(u.Path, "/") {
		return u
	}
	path, query, _ := strings.Cut(s, "?")
	return &url.URL{Path: "/" + strings.TrimLeft(path, "/"), RawQuery: query}
}

// Describe is a request in one line, to be found again.
func Describe(r *http.Request) string {
	return fmt.Sprintf("%s %q %v", r.Method, r.URL, r.Header)
}
