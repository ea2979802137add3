package session

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// LinkLife is how long a link is good for.
const LinkLife = 60 * time.Second

// maxLinks bounds the links that nobody has used yet.
const maxLinks = 64

// Links are the one-time links that sign a browser in at this agent.
type Links struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]link
}

type link struct {
	token string
	until time.Time
}

// NewLinks makes an empty set.
func NewLinks(now func() time.Time) *Links {
	return &Links{now: now, all: map[[sha256.Size]byte]link{}}
}

// Make returns the secret of a new link, which stands for the token.
func (l *Links) Make(token string) string {
	secret := rand.Text() + rand.Text()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for k, one := range l.all {
		if !now.Before(one.until) || len(l.all) >= maxLinks {
			delete(l.all, k)
		}
	}
	l.all[sha256.Sum256([]byte(secret))] = link{token, now.Add(LinkLife)}
	return secret
}

// Take returns the token of a link and ends the link.
func (l *Links) Take(secret string) (token string, ok bool) {
	key := sha256.Sum256([]byte(secret))
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.all[key]
	delete(l.all, key)
	if !ok || !l.now().Before(one.until) {
		return "", false
	}
	return one.token, true
}
