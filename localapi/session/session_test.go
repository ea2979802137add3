package session

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const token = "hf_secret-token"

func request(host, cookie string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = host
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	return r
}

// pair is the part of a Set-Cookie header that a browser sends back.
func pair(header string) string {
	p, _, _ := strings.Cut(header, ";")
	return p
}

func TestCookieIsSealed(t *testing.T) {
	t.Parallel()
	k := New(nil, time.Now)
	header, _ := k.Begin(request("a:1", ""), token)
	name, value, _ := strings.Cut(pair(header), "=")
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || bytes.Contains(raw, []byte(token)) {
		t.Fatalf("the cookie has the token, or is no base64: %v", err)
	}
	if s, ok := k.Find(request("a:1", name+"="+value)); !ok || s.Token != token {
		t.Fatalf("found %v %v", s, ok)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, ok := k.Find(request("a:1", name+"="+base64.RawURLEncoding.EncodeToString(raw))); ok {
			t.Fatalf("a cookie with a wrong byte %d is accepted", i)
		}
		raw[i] ^= 1
	}
	for _, bad := range []string{"", "x", "%%%", value[:10], value + value, strings.Repeat("A", 8<<10)} {
		if _, ok := k.Find(request("a:1", name+"="+bad)); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
	again, _ := k.Begin(request("a:1", ""), token)
	if again == header {
		t.Error("two sessions have one cookie")
	}
}

func TestCookieName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"localhost:8081": "holdfast_session_8081", "[::1]:8080": "holdfast_session_8080", "config.example": "holdfast_session_80",
	} {
		if got := CookieName(request(host, "")); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	if got := CookieName(httptest.NewRequest("GET", "https://config.example/", nil)); got != "holdfast_session_443" {
		t.Errorf("over TLS: %s", got)
	}
}

func TestCookieOverTLSIsSecure(t *testing.T) {
	t.Parallel()
	k := New(nil, time.Now)
	for url, want := range map[string]bool{"https://a:1/": true, "http://a:1/": false} {
		header, _ := k.Begin(httptest.NewRequest("POST", url, nil), token)
		if got := strings.Contains(header, "; Secure"); got != want {
			t.Errorf("%s: %s", url, header)
		}
	}
}

func TestEndedHere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := New(nil, func() time.Time { return now })
	header, s := k.Begin(request("a:1", ""), token)
	cookie := pair(header)
	now = now.Add(10 * time.Minute)
	renewed := pair(k.Renewal(request("a:1", cookie), s))
	if renewed == "" {
		t.Fatal("not renewed")
	}
	k.End(request("a:1", cookie))
	for _, c := range []string{cookie, renewed} { // one that a page got meanwhile, too
		if _, ok := k.Find(request("a:1", c)); ok {
			t.Error("a session goes on after its end")
		}
	}
	for range 3 * maxEnded {
		header, _ := k.Begin(request("a:1", ""), token)
		k.End(request("a:1", pair(header)))
	}
	if len(k.ended) > maxEnded {
		t.Errorf("%d ended sessions are remembered", len(k.ended))
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := NewLinks(func() time.Time { return now })
	link := l.Make(token)
	if len(link) < 40 {
		t.Errorf("a link of %d characters can be guessed", len(link))
	}
	if got, ok := l.Take(link); !ok || got != token {
		t.Error("a link does not work")
	}
	if _, ok := l.Take(link); ok {
		t.Error("a link works twice")
	}
	link = l.Make(token)
	now = now.Add(LinkLife)
	if _, ok := l.Take(link); ok {
		t.Error("a link works after its end")
	}
	for range 1000 {
		l.Make(token)
	}
	if len(l.all) > maxLinks {
		t.Errorf("%d links are kept", len(l.all))
	}
}
