package localapi

import (
	"net/http"

	"github.com/julienschmidt/httprouter"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// serveKeys lists the public keys that verify signed updates.
func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	keys := []Key{}
	if s.opts.Keys != nil {
		keys = append(keys, s.opts.Keys()...)
	}
	s.writeJSON(w, r, routeKeys, http.StatusOK, map[string][]Key{"keys": keys})
}

// serveHealth responds 200 while the process works: a restart does not help an
// agent that serves from its last-known-good file. The body has the state.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	if s.opts.Health == nil {
		s.fail(w, r, routeHealth, conf.Errorf(conf.CodeUnsupported, "this agent does not report its health"))
		return
	}
	s.stateHeaders(w.Header())
	s.writeJSON(w, r, routeHealth, http.StatusOK, s.opts.Health())
}

// serveReady responds 200 when the agent has what its service needs to start.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			e := &conf.Error{Code: conf.CodeOf(err), Message: err.Error(), Hint: conf.HintOf(err)}
			s.failStatus(w, r, routeReady, http.StatusServiceUnavailable, e)
			return
		}
	}
	s.stateHeaders(w.Header())
	s.writeJSON(w, r, routeReady, http.StatusOK, map[string]bool{"ready": true})
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	s.metrics.count(routeMetrics, http.StatusOK)
	w.Header()["X-Content-Type-Options"] = noSniff
	s.prom.ServeHTTP(w, r)
}
