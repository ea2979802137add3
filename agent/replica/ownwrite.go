package replica

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// IndexHeader is the header of the answer to a change with a log index that includes it.
const IndexHeader = "X-Config-Index"

// WithIndex adds IndexHeader to the answers of h, the admin API for members, so that the
// agent that forwarded a change can wait until it has it.
func WithIndex(h http.Handler, s *Supervisor) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			w = &indexWriter{ResponseWriter: w, sup: s}
		}
		h.ServeHTTP(w, req)
	})
}

type indexWriter struct {
	http.ResponseWriter
	sup *Supervisor
}

// WriteHeader reads the index when the change has been applied.
func (w *indexWriter) WriteHeader(status int) {
	if r := w.sup.current.Load(); r != nil && status == http.StatusOK {
		index, _ := r.store.Applied()
		w.Header().Set(IndexHeader, strconv.FormatUint(index, 10))
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *indexWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// AwaitIndex waits until this agent serves what the log has up to index. It reports false
// when ctx ends first.
func AwaitIndex(ctx context.Context, s *Supervisor, index uint64) bool {
	for {
		snap := s.o.View.Load()
		if snap.Index >= index {
			return true
		}
		select {
		case <-snap.Changed():
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}
