package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/holdfast-config/holdfast/agent/observe"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// member is what an observer asks of one; *client.Client is one.
type member interface {
	Service(ctx context.Context, service string) (conf.ReadResponse, error)
	KeyRing(ctx context.Context) (conf.KeysStatus, error)
}

// When an observer asks a member for a service.
const (
	askTimeout = 10 * time.Second
	askGrace   = 3 * time.Second  // for a broker to come back, and for its retained messages
	askAgain   = 10 * time.Second // while the broker has nothing
	askSilent  = 6 * time.Minute  // after the last word of a leader: it signs anew every 4 minutes

	askKeysOften = time.Hour   // whether what was learned is still good, and at the start
	askKeysAgain = time.Minute // when nobody could say
)

// What became of a question.
const (
	askedNewer   = "newer"
	askedSame    = "same"
	askedRefused = "refused"
	askedFailed  = "failed"
)

var askResults = []string{askedNewer, askedSame, askedRefused, askedFailed}

// askMembers asks over HTTP for what the broker does not bring. What a member
// answers is proven like a message.
func (b *Observer) askMembers(ctx context.Context) {
	last := map[string]time.Time{}
	var keysAt, told time.Time // when the keys were asked for, and when a member answered
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	// Hundreds of observers lose their broker at the same moment.
	spread := rand.N(askGrace)
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.nudge:
		case <-tick.C:
		}
		doubt := len(b.receiver.Learned()) > 0 && time.Since(told) > askKeysOften && time.Since(keysAt) > askKeysAgain+spread
		if doubt || b.unproven.Load() && time.Since(keysAt) > askAgain+spread {
			keysAt = time.Now()
			if b.askKeys(ctx) {
				told = keysAt
			}
		}
		for _, s := range b.due(last, spread, time.Now()) {
			last[s] = time.Now()
			b.ask(ctx, s)
		}
	}
}

// due lists the services to ask for now.
func (b *Observer) due(last map[string]time.Time, spread time.Duration, now time.Time) (out []string) {
	age := b.age()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.services {
		since := now.Sub(last[s])
		missing := b.subscriber == nil || (b.heard[s].IsZero() && now.Sub(b.turned) > askGrace+spread)
		silent := age < 0 || age > askSilent
		switch {
		case b.gaps[s] && since > time.Second, missing && since > askAgain+spread, silent && since > time.Minute+10*spread:
			out = append(out, s)
			delete(b.gaps, s)
		}
	}
	return out
}

// ask takes the first answer that a member gives.
func (b *Observer) ask(ctx context.Context, service string) {
	result := askedFailed
	for _, i := range rand.Perm(len(b.members)) {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		doc, err := b.members[i].Service(asking, service)
		cancel()
		if err != nil {
			b.log.Debug("a member was asked in vain", "service", service, "err", err)
			continue
		}
		result = askedSame
		err = b.take(func() []observe.Verdict {
			v := b.receiver.OfferDocument(service, doc)
			if v.Record != nil {
				result = askedNewer
			}
			return []observe.Verdict{v}
		}, "member")
		if err != nil {
			result = askedRefused
			continue // another one may know better
		}
		break
	}
	b.mu.Lock()
	b.asked[result]++
	b.mu.Unlock()
}

// askKeys asks the members for the signing keys: after an update that no trusted key
// signed, since the cluster may have rotated it, until one tells a new key; and now
// and then, whether what was learned has been retired. What a member says is believed
// of a key as far as a trusted one proves it. It says whether one answered.
func (b *Observer) askKeys(ctx context.Context) (told bool) {
	wanted := b.unproven.Swap(false)
	for _, i := range rand.Perm(len(b.members)) {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		st, err := b.members[i].KeyRing(asking)
		cancel()
		if err != nil {
			b.log.Debug("a member was asked for the keys in vain", "err", err)
			continue
		}
		told = true
		fresh, gone := b.receiver.Learn(st.Keys)
		for _, k := range gone {
			b.log.Info("a signing key of the cluster is at its end: it is trusted no more", "key", seal.KeyID(k))
		}
		b.keepKeys()
		if len(fresh) == 0 {
			if !wanted {
				return true
			}
			continue
		}
		for _, k := range fresh {
			b.log.Info("a new signing key of the cluster is trusted: a trusted one proves it", "key", seal.KeyID(k))
		}
		b.mu.Lock()
		for _, s := range b.services { // what was refused does not come again by itself
			b.gaps[s] = true
		}
		b.mu.Unlock()
		return true
	}
	if wanted && !told {
		b.unproven.Store(true)
	}
	return told
}
