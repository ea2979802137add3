package fairqueue

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// RetryAfter is the number of seconds after which a rejected request may be sent
// again.
const RetryAfter = 1

// Limits bound a Queue.
type Limits struct {
	Running        int           // requests in progress
	RunningPerFlow int           // of one flow
	QueuedPerFlow  int           // requests of one flow that wait
	Timeout        time.Duration // of the wait
}

// DefaultLimits are those of the admin API.
var DefaultLimits = Limits{Running: 256, RunningPerFlow: 128, QueuedPerFlow: 512, Timeout: 5 * time.Second}

// Key names a flow: all requests of one caller.
type Key [sha256.Size]byte

// KeyOf returns the key of a caller.
func KeyOf(caller string) Key { return sha256.Sum256([]byte(caller)) }

// Queue limits requests in progress, fairly among flows.
type Queue struct {
	limits   Limits
	rejected atomic.Uint64

	mu      sync.Mutex
	running int
	flows   map[Key]*flow
	waiting []*flow // that have queued requests; the first one is next
}

type flow struct {
	running int
	queued  []chan struct{} // closed when that request may run
}

// New returns an empty Queue.
func New(l Limits) *Queue { return &Queue{limits: l, flows: map[Key]*flow{}} }

// Rejected returns how many requests were rejected.
func (q *Queue) Rejected() uint64 { return q.rejected.Load() }

// Acquire waits until a request of this flow may run, and returns what must be
// called after it. It fails with conf.CodeRateLimited when too many wait, after
// Limits.Timeout; and with the error of ctx when that ends first.
func (q *Queue) Acquire(ctx context.Context, key Key) (release func(), err error) {
	q.mu.Lock()
	f := q.flows[key]
	if f == nil {
		f = &flow{}
		q.flows[key] = f
	}
	release = func() { q.release(key, f) }
	if q.running < q.limits.Running && f.running < q.limits.RunningPerFlow { // no request that could run is queued then
		q.running++
		f.running++
		q.mu.Unlock()
		return release, nil
	}
	if len(f.queued) >= q.limits.QueuedPerFlow {
		q.mu.Unlock()
		return nil, q.reject()
	}
	ready := make(chan struct{})
	if len(f.queued) == 0 {
		q.waiting = append(q.waiting, f)
	}
	f.queued = append(f.queued, ready)
	q.mu.Unlock()

	t := time.NewTimer(q.limits.Timeout)
	defer t.Stop()
	select {
	case <-ready:
		return release, nil
	case <-t.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(f.queued, ready)
	if i < 0 { // it became ready at the same time
		return release, nil
	}
	f.queued = slices.Delete(f.queued, i, i+1)
	if len(f.queued) == 0 {
		q.waiting = slices.DeleteFunc(q.waiting, func(o *flow) bool { return o == f })
		q.forget(key, f)
	}
	if err := ctx.Err(); err != nil {
		return nil, err // nobody waits for this turn any more
	}
	return nil, q.reject()
}

func (q *Queue) release(key Key, f *flow) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	f.running--
	q.next()
	q.forget(key, f)
}

// next starts queued requests, one of each flow after the other.
func (q *Queue) next() {
	for i := 0; i < len(q.waiting) && q.running < q.limits.Running; {
		f := q.waiting[i]
		if f.running >= q.limits.RunningPerFlow {
			i++
			continue
		}
		close(f.queued[0])
		f.queued = f.queued[1:]
		f.running++
		q.running++
		q.waiting = slices.Delete(q.waiting, i, i+1)
		if len(f.queued) > 0 {
			q.waiting = append(q.waiting, f)
		}
	}
}

func (q *Queue) forget(key Key, f *flow) {
	if f.running == 0 && len(f.queued) == 0 && q.flows[key] == f {
		delete(q.flows, key)
	}
}

func (q *Queue) reject() error {
	q.rejected.Add(1)
	return conf.Errorf(conf.CodeRateLimited, "too many requests at a time of one caller").
		WithHint("send fewer at a time, each after the answer to the one before; this one changed nothing, and may be sent again after %d s", RetryAfter)
}
