package peers

import (
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// clockHeader has the wall clock of the member that answers, in conf.FormatTime's form.
const clockHeader = "Holdfast-Clock"

// skewTTL is how long a comparison counts: a member that left, or that is silent, is not
// reported for longer.
const skewTTL = time.Minute

// Clocks compares the wall clocks of other members with the one of this agent, at each
// response. What a member says of its clock is shown and changes nothing.
type Clocks struct {
	now func() time.Time

	mu    sync.Mutex
	skews map[string]skew
}

type skew struct {
	ahead time.Duration // of this agent's clock
	at    time.Time     // monotonic
}

// answering adds the clock of this agent to the responses of h.
func (k *Clocks) answering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(clockHeader, conf.FormatTime(k.now()))
		h.ServeHTTP(w, r)
	})
}

// compare records what a response says that was asked for at began, by the monotonic clock,
// and whose header has come. The member read its clock in between: differences below the
// time of the round trip are none.
func (k *Clocks) compare(node string, began time.Time, h http.Header) (ahead time.Duration, ok bool) {
	theirs, err := conf.ParseTime(h.Get(clockHeader))
	if err != nil {
		return 0, false // an older build
	}
	trip := time.Since(began)
	ahead = theirs.Sub(k.now().Round(0).Add(-trip / 2))
	if ahead.Abs() <= trip {
		ahead = 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.skews == nil {
		k.skews = map[string]skew{}
	}
	k.skews[node] = skew{ahead, time.Now()}
	return ahead, true
}

// Skews returns by how much the clocks of other members are ahead of this agent's, as the
// last contacts showed.
func (k *Clocks) Skews() map[string]time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]time.Duration{}
	for node, s := range k.skews {
		if time.Since(s.at) > skewTTL {
			delete(k.skews, node)
			continue
		}
		out[node] = s.ahead
	}
	return out
}

// Err names the member whose clock differs most, when that is more than conf.MaxLead;
// else it is nil.
func (k *Clocks) Err() error {
	skews, worst := k.Skews(), ""
	for _, node := range conf.SortedKeys(skews) {
		if worst == "" || skews[node].Abs() > skews[worst].Abs() {
			worst = node
		}
	}
	if worst == "" || skews[worst].Abs() <= conf.MaxLead {
		return nil
	}
	return skewError(worst, skews[worst])
}

func skewError(node string, ahead time.Duration) *conf.Error {
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	return conf.Errorf(conf.CodeInvalid, "the clock of %s is %s %s the clock of this agent", node, ahead.Abs().Round(time.Second), way).
		WithHint("set the one that is wrong, and keep both synchronized: NTP")
}

// compareClocks is called with each response of a member.
func compareClocks(c *Cluster, node string, began time.Time, h http.Header) {
	ahead, ok := c.Clocks.compare(node, began, h)
	if ok && ahead.Abs() > conf.MaxLead && c.limiter.allow("clock "+node, time.Now()) {
		err := skewError(node, ahead)
		c.log.Warn("clocks differ", "node", node, "err", err, "hint", err.Hint)
	}
}
