package localapi

import (
	"errors"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/httperror"
)

// serveExplanation responds with where the values of a service come from. It is
// for people, so nothing of it is rendered in advance.
func (s *Server) serveExplanation(w http.ResponseWriter, r *http.Request, route route, t resource) {
	service := t.service
	if s.opts.Explain == nil || service == "" {
		s.fail(w, r, route, conf.Errorf(conf.CodeUnsupported, "this agent does not explain its values").WithHint("use the name of a service"))
		return
	}
	out, err := s.opts.Explain(r.Context(), service, t.trusted)
	if httperror.ClientGone(r.Context(), err) {
		httperror.Abandon()
	}
	if err != nil {
		e, ok := errors.AsType[*conf.Error](err)
		if !ok {
			e = conf.Errorf(conf.CodeInternal, "the values cannot be explained: %w", err)
		}
		s.fail(w, r, route, e)
		return
	}
	s.stateHeaders(w.Header())
	s.writeJSON(w, r, route, http.StatusOK, out)
}
