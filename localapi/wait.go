package localapi

import (
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// errAbsent says that what was asked for is not there. Why it is not is worked
// out by explain, once and only for an answer that is really sent: requests that
// wait for something to appear look again at each change.
var errAbsent = &conf.Error{Code: conf.CodeNotFound}

// look finds what a request asks for, now. The channel is closed when that may
// have changed.
func (s *Server) look(t *target) (*Document, *representation, <-chan struct{}, *conf.Error) {
	doc, changed, ok := s.source.Get(t.service)
	if !ok {
		return nil, nil, nil, errAbsent
	}
	if !doc.exists {
		return doc, nil, changed, errAbsent
	}
	rep, err := t.pick(doc)
	return doc, rep, changed, err
}

// mayWait says whether the answer of now is one to wait on: the caller has it
// already, asked for the next one, or what it asks for is not there.
func mayWait(now *representation, err *conf.Error, asked []string) bool {
	if err != nil {
		return err == errAbsent
	}
	return len(asked) == 0 || matches(asked, now.tag)
}

// wait holds a request until the target says something else than was, which is
// nil when there was nothing, or until the time is over, the caller is gone or
// the server stops. It returns the newest there is then.
func (s *Server) wait(r *http.Request, t target, was *representation, asked []string, d time.Duration) (*Document, *representation, *conf.Error) {
	s.metrics.polls.Add(1)
	defer s.metrics.polls.Add(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for over := false; ; {
		// Before the look: a service that appears in between closes it.
		missing := s.source.Missing(t.service)
		doc, rep, changed, err := s.look(&t)
		if over || differs(was, rep, err, asked) {
			return doc, rep, err
		}
		if doc == nil {
			changed = missing
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-r.Context().Done():
			over = true
		case <-s.stopping:
			over = true
		}
	}
}

// differs says whether what there is now ends the wait of a caller that saw was.
func differs(was, now *representation, err *conf.Error, asked []string) bool {
	switch {
	case err != nil:
		return was != nil || err != errAbsent
	case was == nil:
		return true
	default:
		return now.tag != was.tag && !matches(asked, now.tag)
	}
}
