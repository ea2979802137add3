package localapi

import (
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// errAbsent is a missing resource. explain finds the reason, and only for a
// response that is sent: waiting requests look the resource up at each change.
var errAbsent = &conf.Error{Code: conf.CodeNotFound}

// lookup finds the resource. The channel is closed when it may have changed.
func (s *Server) lookup(t *resource) (*Document, *representation, <-chan struct{}, *conf.Error) {
	doc, changed, ok := s.source.Get(t.service)
	if !ok {
		return nil, nil, nil, errAbsent
	}
	if !doc.exists {
		return doc, nil, changed, errAbsent
	}
	rep, err := t.selectRepresentation(doc)
	return doc, rep, changed, err
}

// mayWait reports whether a request waits for a change: the caller has what there
// is now, has no ETag, or the resource is missing.
func mayWait(now *representation, err *conf.Error, asked []string) bool {
	if err != nil {
		return err == errAbsent
	}
	return len(asked) == 0 || MatchesTag(asked, now.tag)
}

// wait blocks until the resource differs from was, which is nil for a missing one,
// or until the time is over, the caller disconnects or the server stops. It returns
// the newest representation.
func (s *Server) wait(r *http.Request, t resource, was *representation, asked []string, d time.Duration) (*Document, *representation, *conf.Error) {
	s.metrics.polls.Add(1)
	defer s.metrics.polls.Add(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for over := false; ; {
		// Before the lookup: a service that appears in between closes it.
		missing := s.source.Missing(t.service)
		doc, rep, changed, err := s.lookup(&t)
		if over || hasChanged(was, rep, err, asked) {
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

// hasChanged reports whether what there is now ends the wait of a caller with was.
func hasChanged(was, now *representation, err *conf.Error, asked []string) bool {
	switch {
	case err != nil:
		return was != nil || err != errAbsent
	case was == nil:
		return true
	default:
		return now.tag != was.tag && !MatchesTag(asked, now.tag)
	}
}
