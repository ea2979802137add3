package session

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Keeper opens and ends sessions.
type Keeper struct {
	keys func() [][]byte
	own  []byte
	now  func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // the ids of sessions that were ended here, until they end anyway
}

// New makes one. keys are those that the servers share, the active one first, each of 32
// bytes; where there is none, the Keeper has a key of its own.
func New(keys func() [][]byte, now func() time.Time) *Keeper {
	k := &Keeper{keys: keys, own: make([]byte, keyBytes), now: now, ended: map[string]time.Time{}}
	_, _ = rand.Read(k.own) // never fails
	return k
}

// all are the usable keys, the one that seals first.
func (k *Keeper) all() [][]byte {
	var out [][]byte
	if k.keys != nil {
		for _, key := range k.keys() {
			if len(key) == keyBytes {
				out = append(out, key)
			}
		}
	}
	return append(out, k.own)
}

func (k *Keeper) end(s Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for id, until := range k.ended {
		if !now.Before(until) || len(k.ended) >= maxEnded {
			delete(k.ended, id)
		}
	}
	k.ended[s.id] = s.Ends()
}

// Ended reports whether a session was ended here.
func (k *Keeper) Ended(s Session) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ended := k.ended[s.id]
	return ended
}

// SameOrigin reports whether a browser says that a request comes from a page of this
// origin. Without any such header only reads are accepted.
func SameOrigin(r *http.Request) bool {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin":
	case "none":
		return safe
	case "":
		if r.Header.Get("Origin") == "" {
			return safe
		}
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}
