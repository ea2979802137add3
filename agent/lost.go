package agent

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// lostSecrets knows which stored secrets are missing from the documents that are
// served, because this agent cannot open them. The documents are made once a
// revision, and so is this.
type lostSecrets struct {
	mu sync.Mutex
	by map[string]lostOf
}

type lostOf struct {
	rec  *conf.Record
	list []lostSecret
}

type lostSecret struct {
	service, key, keyID string
	noKey               bool // else it is damaged
}

// note keeps what is missing from the document of a record. It says whether that is
// news.
func (l *lostSecrets) note(rec *conf.Record, list []lostSecret) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.by[rec.Service].list
	if len(list) == 0 {
		delete(l.by, rec.Service)
		return false
	}
	if l.by == nil {
		l.by = map[string]lostOf{}
	}
	l.by[rec.Service] = lostOf{rec, list}
	return !slices.Equal(was, list)
}

// of says whether something is missing from the document of this record.
func (l *lostSecrets) of(rec *conf.Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[rec.Service].rec == rec
}

// now lists what is missing from what is served now.
func (l *lostSecrets) now(snap *snapshot) (out []lostSecret) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, service := range conf.SortedKeys(l.by) {
		lost := l.by[service]
		if e, ok := snap.Get(service); ok && e.Record == lost.rec {
			out = append(out, lost.list...)
		}
	}
	return out
}

// mostNamed bounds how many secrets a text names.
const mostNamed = 10

// lostError tells of the secrets that are missing from what is served, nil for none.
// It has the hint in its text, because health has no other place for it.
func (s *supervisor) lostError() error {
	lost := s.lost.now(s.view.Load())
	if len(lost) == 0 {
		return nil
	}
	var names []string
	noKey := false
	for _, l := range lost {
		why := "damaged"
		if l.noKey {
			noKey, why = true, "sealed under the master key "+l.keyID+", which this agent does not hold"
		}
		if len(names) < mostNamed {
			names = append(names, fmt.Sprintf("%s of %s (%s)", l.key, l.service, why))
		}
	}
	if more := len(lost) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	text, hint := "", "set them again: holdfast secret set"
	if noKey {
		hint = "start a server that holds the key, see: holdfast keys status; or set them again: holdfast secret set"
		s.keyMu.Lock()
		cause := s.keyErrs[conf.KeyMaster]
		s.keyMu.Unlock()
		main, _ := s.keys.Get().IDs(conf.KeyMaster)
		switch {
		case cause != nil:
			text, hint = ": "+publicText(cause), conf.HintOf(cause)
		case main == "" && s.vault.Narrow():
			text = ": this sidecar was admitted for no service"
			hint = joinAnew(s.cluster.self(), s.o.ServiceName)
		}
	}
	e := conf.Errorf(conf.CodeUnsupported, "stored secrets that this agent cannot open are missing from what it serves: %s%s", strings.Join(names, ", "), text)
	if hint != "" {
		e.Message += "; " + hint
	}
	return e
}

// joinAnew is the way out of a sidecar that has no key of its service, and cannot get it.
func joinAnew(node, service string) string {
	return fmt.Sprintf("plain values are read on; for its secrets it has to join anew: holdfast cluster remove %s, then start it with an empty data directory and .env file, and what this prints: "+
		"holdfast token create --role sidecar --service %s", node, service)
}
