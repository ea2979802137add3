package peers

import (
	"sync"
	"time"
)

const (
	logInterval = time.Minute
	maxLogKeys  = 1024
)

// logLimiter keeps what other hosts can cause at will from filling the log: each key
// is logged once an interval. Safe for concurrent use; the zero value is ready.
type logLimiter struct {
	mu     sync.Mutex
	logged map[string]time.Time
}

// allow reports whether key is to be logged now, and counts it as logged.
func (l *logLimiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.logged[key]; ok && now.Sub(at) < logInterval {
		return false
	}
	if l.logged == nil {
		l.logged = map[string]time.Time{}
	}
	if len(l.logged) >= maxLogKeys {
		for k, at := range l.logged {
			if now.Sub(at) >= logInterval {
				delete(l.logged, k)
			}
		}
	}
	if len(l.logged) >= maxLogKeys {
		return false // very many at once: one of them was logged
	}
	l.logged[key] = now
	return true
}
