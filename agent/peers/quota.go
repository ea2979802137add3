package peers

import (
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"golang.org/x/time/rate"
)

const maxQuotas = 1024 // members that are remembered

// Quota bounds what each member may have this leader write on every disk. Safe for
// concurrent use.
type Quota struct {
	what  string
	limit rate.Limit
	burst int

	mu      sync.Mutex
	members map[string]*rate.Limiter
}

// NewQuota allows each member burst units at once and perSecond in the long run. what
// names them in the error.
func NewQuota(what string, perSecond float64, burst int) *Quota {
	return &Quota{what: what, limit: rate.Limit(perSecond), burst: burst, members: map[string]*rate.Limiter{}}
}

// Take takes n units of a member. An error takes nothing.
func (q *Quota) Take(node string, n int, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.members[node]
	if l == nil {
		if len(q.members) >= maxQuotas {
			for id, other := range q.members {
				if other.TokensAt(now) >= float64(q.burst) {
					delete(q.members, id)
				}
			}
		}
		if len(q.members) >= maxQuotas {
			return q.exceeded(node)
		}
		l = rate.NewLimiter(q.limit, q.burst)
		q.members[node] = l
	}
	if !l.AllowN(now, n) {
		return q.exceeded(node)
	}
	return nil
}

func (q *Quota) exceeded(node string) error {
	return conf.Errorf(conf.CodeRateLimited, "member %s sends more %s than one member may", node, q.what).
		WithHint("it is accepted again in a few seconds; if it goes on, look at that agent, or: holdfast cluster remove %s", node)
}
