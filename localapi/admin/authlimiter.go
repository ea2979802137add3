package admin

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
	maxAccepted = 8    // accepted tokens that are remembered for each address
)

// authLimiter slows down callers that guess tokens. Each client address has a
// bucket that failed attempts empty. While it is empty, attempts from there are
// rejected unchecked. A token that was accepted from that address before is still
// checked, so that a broken program does not lock out its neighbors.
type authLimiter struct {
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

func newAuthLimiter(limit rate.Limit, burst int, now func() time.Time) *authLimiter {
	return &authLimiter{limit: limit, burst: burst, now: now, sources: map[netip.Prefix]*attempts{}}
}

// blocked reports whether an attempt is rejected unchecked, and for how long.
func (f *authLimiter) blocked(from netip.Prefix, token string) (time.Duration, bool) {
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

// failed counts a failed attempt. The token is no longer an accepted one.
func (f *authLimiter) failed(from netip.Prefix, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.source(from)
	s.bucket.AllowN(f.now(), 1)
	if i := slices.Index(s.accepted, sha256.Sum256([]byte(token))); i >= 0 {
		s.accepted = slices.Delete(s.accepted, i, i+1)
	}
}

// wasAccepted reports whether a token was accepted from there before.
func (f *authLimiter) wasAccepted(from netip.Prefix, token string) bool {
	sum := sha256.Sum256([]byte(token))
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sources[from]
	return s != nil && slices.Contains(s.accepted, sum)
}

// accepted remembers an accepted token.
func (f *authLimiter) accepted(from netip.Prefix, token string) {
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
func (f *authLimiter) source(from netip.Prefix) *attempts {
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
