package observer

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// memberClient is the admin API of a member; *client.Client is one.
type memberClient interface {
	Service(ctx context.Context, service string) (conf.ReadResponse, error)
	KeyRing(ctx context.Context) (conf.KeysStatus, error)
}

// When an observer fetches a service, or the keyring, from a member.
const (
	fetchTimeout = 10 * time.Second
	brokerGrace  = 3 * time.Second  // for a broker to reconnect and send its retained messages
	fetchRetry   = 10 * time.Second // while the broker has nothing
	maxSilence   = 6 * time.Minute  // since the leader signed last: it reissues every 4 minutes

	keysInterval = time.Hour   // to check whether learned keys are still valid, and at the start
	keysRetry    = time.Minute // when no member responded
)

// Results of fetching a service, as the metric has them.
const (
	resultNewer   = "newer"
	resultSame    = "same"
	resultRefused = "refused"
	resultFailed  = "failed"
)

var fetchResults = []string{resultNewer, resultSame, resultRefused, resultFailed}

// fetcher fetches over HTTP what the broker does not send. The response of a member is
// verified like a message.
type fetcher struct {
	log      *slog.Logger
	services []string
	members  []memberClient
	receiver *updates.Receiver
	learned  *learnedKeys
	accepted *acceptedState
	link     *brokerLink
	age      func() time.Duration

	wakeFetch  chan struct{} // capacity 1: check whether to fetch
	unknownKey atomic.Bool   // an update came that no trusted key signed

	mu      sync.Mutex
	refetch map[string]bool // services to fetch now
	results map[string]uint64
	answer  time.Time // of a member, the last
}

// answeredAt is when a member answered last; when the observer began, before the first.
func (f *fetcher) answeredAt() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answer
}

func newFetcher(b *Observer) *fetcher {
	return &fetcher{
		log: b.log, services: b.services, receiver: b.receiver, learned: b.learned, accepted: b.accepted, link: b.link, age: b.age,
		wakeFetch: make(chan struct{}, 1), refetch: map[string]bool{}, results: map[string]uint64{}, answer: time.Now(),
	}
}

// requestService wakes run to fetch a service now: the broker skipped versions of it.
func (f *fetcher) requestService(service string) {
	f.mu.Lock()
	f.refetch[service] = true
	f.mu.Unlock()
	signal(f.wakeFetch)
}

// requestKeys wakes run to fetch the keyring: the cluster may have rotated its signing key.
func (f *fetcher) requestKeys() {
	f.unknownKey.Store(true)
	signal(f.wakeFetch)
}

// run fetches until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	last := map[string]time.Time{}
	var keysAt, keysOK time.Time // when the keyring was fetched, and when a member responded
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	// Hundreds of observers lose their broker at the same moment.
	spread := rand.N(brokerGrace)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wakeFetch:
		case <-tick.C:
		}
		stale := len(f.receiver.Learned()) > 0 && time.Since(keysOK) > keysInterval && time.Since(keysAt) > keysRetry+spread
		if stale || f.unknownKey.Load() && time.Since(keysAt) > fetchRetry+spread {
			keysAt = time.Now()
			if f.fetchKeys(ctx) {
				keysOK = keysAt
			}
		}
		for _, s := range f.due(last, spread, time.Now()) {
			last[s] = time.Now()
			f.fetchService(ctx, s)
		}
	}
}

// due lists the services to fetch now.
func (f *fetcher) due(last map[string]time.Time, spread time.Duration, now time.Time) (out []string) {
	age := f.age()
	silent := age < 0 || age > maxSilence
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.services {
		since := now.Sub(last[s])
		missing := f.link.lacks(s, brokerGrace+spread, now)
		switch {
		case f.refetch[s] && since > time.Second, missing && since > fetchRetry+spread, silent && since > time.Minute+10*spread:
			out = append(out, s)
			delete(f.refetch, s)
		}
	}
	return out
}

// fetchService requests a service from members in random order, until a response is
// accepted.
func (f *fetcher) fetchService(ctx context.Context, service string) {
	result := resultFailed
	for _, i := range rand.Perm(len(f.members)) {
		asking, cancel := context.WithTimeout(ctx, fetchTimeout)
		doc, err := f.members[i].Service(asking, service)
		cancel()
		if err != nil {
			f.log.Debug("fetching an update from a member failed", "service", service, "err", err)
			continue
		}
		result = resultSame
		err = f.accepted.accept(fromMember, func() []updates.Result {
			v := f.receiver.ReceiveDocument(service, doc)
			if v.Record != nil {
				result = resultNewer
			}
			return []updates.Result{v}
		})
		if err == nil {
			break
		}
		result = resultRefused // another member may have a valid one
	}
	f.mu.Lock()
	if result != resultFailed {
		f.answer = time.Now()
	}
	f.results[result]++
	f.mu.Unlock()
}

// fetchKeys asks members for the signing keys: after an update that no trusted key
// signed, until one has a new key; and every keysInterval, whether learned keys have
// expired. A key is trusted only if a trusted one proves it. It reports whether a
// member responded.
func (f *fetcher) fetchKeys(ctx context.Context) (ok bool) {
	wanted := f.unknownKey.Swap(false)
	for _, i := range rand.Perm(len(f.members)) {
		asking, cancel := context.WithTimeout(ctx, fetchTimeout)
		st, err := f.members[i].KeyRing(asking)
		cancel()
		if err != nil {
			f.log.Debug("fetching the keyring from a member failed", "err", err)
			continue
		}
		ok = true
		added, expired := f.receiver.MergeKeyring(st.Keys)
		for _, k := range expired {
			f.log.Info("a signing key has expired and is no longer trusted", "key", seal.KeyID(k))
		}
		f.learned.save(f.receiver)
		if len(added) == 0 {
			if !wanted {
				return true
			}
			continue
		}
		for _, k := range added {
			f.log.Info("trusting a new signing key, proved by a trusted one", "key", seal.KeyID(k))
		}
		f.mu.Lock()
		for _, s := range f.services { // the broker does not send a rejected update again
			f.refetch[s] = true
		}
		f.mu.Unlock()
		return true
	}
	if wanted && !ok {
		f.unknownKey.Store(true)
	}
	return ok
}
