package authlimit

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxSources  = 4096 // addresses that are remembered
	maxAccepted = 8    // Accepted tokens that are remembered for each address
)

// Limiter knows the attempts of each client address. Its methods are safe for concurrent use.
type Limiter struct {
	limit rate.Limit
	burst int
	now   func() time.Time

	mu      sync.Mutex
	sources map[netip.Prefix]*attempts
}

type attempts struct {
	bucket   *rate.Limiter
	accepted [][sha256.Size]byte // newest last
	seen     time.Time
}

// New makes a limiter: limit failed attempts a second after a burst of them.
func New(limit rate.Limit, burst int, now func() time.Time) *Limiter {
	return &Limiter{limit: limit, burst: burst, now: now, sources: map[netip.Prefix]*attempts{}}
}

// Blocked reports whether an attempt is rejected unchecked, and for how long.
func (f *Limiter) Blocked(from netip.Prefix, token string) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sources[from]
	if s == nil {
		return 0, false
	}
	left := s.bucket.TokensAt(f.now())
	if left >= 1 {
		return 0, false
	}
	if token != "" && slices.Contains(s.accepted, sha256.Sum256([]byte(token))) {
		return 0, false
	}
	return time.Duration((1 - left) / float64(f.limit) * float64(time.Second)), true
}

// Failed counts a failed attempt. The token is no longer an accepted one.
func (f *Limiter) Failed(from netip.Prefix, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.source(from)
	s.bucket.AllowN(f.now(), 1)
	if i := slices.Index(s.accepted, sha256.Sum256([]byte(token))); i >= 0 {
		s.accepted = slices.Delete(s.accepted, i, i+1)
	}
}

// WasAccepted reports whether a token was accepted from there before.
func (f *Limiter) WasAccepted(from netip.Prefix, token string) bool {
	sum := sha256.Sum256([]byte(token))
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sources[from]
	return s != nil && slices.Contains(s.accepted, sum)
}

// Accepted remembers an accepted token.
func (f *Limiter) Accepted(from netip.Prefix, token string) {
	sum := sha256.Sum256([]byte(token))
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.source(from)
	if slices.Contains(s.accepted, sum) {
		return
	}
	if len(s.accepted) == maxAccepted {
		s.accepted = slices.Delete(s.accepted, 0, 1)
	}
	s.accepted = append(s.accepted, sum)
}

// source returns the entry of one address. A full map drops the least recently
// used of eight entries: a search through all would cost most during a flood.
func (f *Limiter) source(from netip.Prefix) *attempts {
	now := f.now()
	if s := f.sources[from]; s != nil {
		s.seen = now
		return s
	}
	if len(f.sources) >= maxSources {
		var oldest netip.Prefix
		looked := 0
		for p, s := range f.sources {
			if looked == 0 || s.seen.Before(f.sources[oldest].seen) {
				oldest = p
			}
			if looked++; looked == 8 {
				break
			}
		}
		delete(f.sources, oldest)
	}
	s := &attempts{bucket: rate.NewLimiter(f.limit, f.burst), seen: now}
	f.sources[from] = s
	return s
}
