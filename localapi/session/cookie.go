package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Life and Idle are when a session ends: after its begin, and after its last use.
const (
	Life = 12 * time.Hour
	Idle = time.Hour

	renewAfter = 5 * time.Minute // so often a cookie tells its last use
	maxCookie  = 3 << 10
	maxEnded   = 4096
	keyBytes   = 32
)

// Session is what a cookie says.
type Session struct {
	Token string    // by which its requests are authorized
	Start time.Time // of the session
	Used  time.Time // for the last time, to a few minutes
	id    string
}

// sealed is a Session as it is encrypted.
type sealed struct {
	ID    string `json:"i"`
	Token string `json:"t"`
	Start int64  `json:"s"`
	Used  int64  `json:"u"`
}

// Ends is when the session ends at the latest.
func (s Session) Ends() time.Time { return s.Start.Add(Life) }

// live reports whether the session goes on. Clocks of servers differ a little: one of
// another server may have begun in the future.
func (s Session) live(now time.Time) bool {
	return now.Sub(s.Start) < Life && now.Sub(s.Used) < Idle
}

// CookieName is the name of the cookie for the address that a browser asked: with its port,
// because browsers send the cookies of a host to all its ports.
func CookieName(r *http.Request) string {
	port := (&url.URL{Host: r.Host}).Port()
	switch {
	case port != "":
	case r.TLS != nil:
		port = "443"
	default:
		port = "80"
	}
	return "holdfast_session_" + port
}

// Begin starts a session and returns its Set-Cookie header.
func (k *Keeper) Begin(r *http.Request, token string) (cookie string, s Session) {
	now := k.now()
	s = Session{Token: token, Start: now, Used: now, id: rand.Text()}
	return k.setCookie(r, s), s
}

// Find returns the session of a request. Two cookies of its name are none.
func (k *Keeper) Find(r *http.Request) (Session, bool) {
	name := CookieName(r)
	given := r.CookiesNamed(name)
	if len(given) != 1 {
		return Session{}, false
	}
	s, ok := k.open(name, given[0].Value)
	return s, ok && s.live(k.now()) && !k.Ended(s)
}

// Renewal is the Set-Cookie header of a session that is in use; "" while that of the browser
// is recent enough. It is sealed with the active key.
func (k *Keeper) Renewal(r *http.Request, s Session) string {
	now := k.now()
	if now.Sub(s.Used) < renewAfter {
		return ""
	}
	s.Used = now
	return k.setCookie(r, s)
}

// End ends the session of a request, if it has one, and returns the Set-Cookie header that
// removes its cookie.
func (k *Keeper) End(r *http.Request) string {
	if s, ok := k.Find(r); ok {
		k.end(s)
	}
	c := cookie(r)
	c.MaxAge = -1
	return c.String()
}

func (k *Keeper) setCookie(r *http.Request, s Session) string {
	c := cookie(r)
	c.MaxAge = max(1, int(s.Ends().Sub(k.now()).Seconds()))
	c.Value = k.seal(c.Name, s)
	return c.String()
}

func cookie(r *http.Request) http.Cookie {
	return http.Cookie{Name: CookieName(r), Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

func (k *Keeper) seal(name string, s Session) string {
	text, _ := json.Marshal(sealed{s.id, s.Token, s.Start.UnixMilli(), s.Used.UnixMilli()}) // strings and numbers
	a := aead(k.all()[0])
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(text)+a.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(a.Seal(nonce, nonce, text, []byte(name)))
}

func (k *Keeper) open(name, value string) (Session, bool) {
	if len(value) > maxCookie {
		return Session{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return Session{}, false
	}
	for _, key := range k.all() {
		a := aead(key)
		if len(raw) < a.NonceSize() {
			return Session{}, false
		}
		text, err := a.Open(nil, raw[:a.NonceSize()], raw[a.NonceSize():], []byte(name))
		if err != nil {
			continue // of another key
		}
		var s sealed
		if json.Unmarshal(text, &s) != nil {
			return Session{}, false
		}
		return Session{s.Token, time.UnixMilli(s.Start), time.UnixMilli(s.Used), s.ID}, true
	}
	return Session{}, false
}

// aead is the cipher of a key. Keys have the right size: see all.
func aead(key []byte) cipher.AEAD {
	block, _ := aes.NewCipher(key)
	a, _ := cipher.NewGCM(block)
	return a
}
