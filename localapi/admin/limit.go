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
	maxSources = 4096 // addresses that are remembered
	maxGood    = 8    // tokens that worked, remembered for each address
)

// failures slows down whoever guesses tokens. Each source address has a bucket
// that only failed attempts empty; while it is empty, attempts from there are
// refused unseen. A token that worked from that address before is let through,
// so that one broken program does not lock its neighbours out.
type failures struct {
	limit rate.Limit
	burst int
	now   func() time.Time

	mu      sync.Mutex
	sources map[netip.Prefix]*source
}

type source struct {
	bucket *rate.Limiter
	good   [][sha256.Size]byte // newest last
	seen   time.Time
}

func newFailures(limit rate.Limit, burst int, now func() time.Time) *failures {
	return &failures{limit: limit, burst: burst, now: now, sources: map[netip.Prefix]*source{}}
}

// blocked says whether an attempt is refused unseen, and for how long.
func (f *failures) blocked(from netip.Prefix, token string) (time.Duration, bool) {
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
	if token != "" && slices.Contains(s.good, sha256.Sum256([]byte(token))) {
		return 0, false
	}
	return time.Duration((1 - left) / float64(f.limit) * float64(time.Second)), true
}

// failed counts a failed attempt. A token that was right before, and is not any
// more, is let through no longer.
func (f *failures) failed(from netip.Prefix, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.source(from)
	s.bucket.AllowN(f.now(), 1)
	if i := slices.Index(s.good, sha256.Sum256([]byte(token))); i >= 0 {
		s.good = slices.Delete(s.good, i, i+1)
	}
}

// knows says whether a token was right from there before.
func (f *failures) knows(from netip.Prefix, token string) bool {
	sum := sha256.Sum256([]byte(token))
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sources[from]
	return s != nil && slices.Contains(s.good, sum)
}

// worked remembers a token that was right.
func (f *failures) worked(from netip.Prefix, token string) {
	sum := sha256.Sum256([]byte(token))
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.source(from)
	if slices.Contains(s.good, sum) {
		return
	}
	if len(s.good) == maxGood {
		s.good = slices.Delete(s.good, 0, 1)
	}
	s.good = append(s.good, sum)
}

// source finds or makes the entry of one address. A full map gives up the one
// that was seen longest ago among a few: finding the oldest of all would cost
// most when many addresses knock at once.
func (f *failures) source(from netip.Prefix) *source {
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
	s := &source{bucket: rate.NewLimiter(f.limit, f.burst), seen: now}
	f.sources[from] = s
	return s
}
