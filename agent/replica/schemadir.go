package replica

import (
	"context"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/schemas"
)

// retryMismatched is how long a schema waits for its service to change before it is tried
// again all the same: the last attempt may have met a lost leadership.
const retryMismatched = 10 * time.Minute

// schemaDir is the schema directory of a supervisor.
type schemaDir struct{ *Supervisor }

// load loads the schema directory, and returns the services whose stored values a
// new schema does not accept, and the log index that it saw at least.
func (s schemaDir) load(ctx context.Context) (mismatched []string, saw uint64) {
	saw = s.o.View.Load().Index
	mismatched, err := schemas.Load(ctx, s.o.Options.SchemaDir, documents.Records{View: s.o.View}, s.o.Editor, s.log, s.alarms.schemas)
	s.o.Status.SetSchemasError(err)
	return mismatched, saw
}

// retry loads the schema directory again each time a mismatched service changes,
// until there is none: changed values, or a changed schema, are the way out.
func (s schemaDir) retry(ctx context.Context, r *Replica, mismatched []string, saw uint64) {
	for len(mismatched) > 0 {
		s.awaitChange(ctx, mismatched, saw)
		if ctx.Err() != nil {
			return
		}
		saw = s.o.View.Load().Index
		if r.IsReadyLeader() {
			mismatched, saw = s.load(ctx)
		}
	}
}

// awaitChange returns when one of the services changed after the index saw, and at the
// latest after retryMismatched.
func (s schemaDir) awaitChange(ctx context.Context, services []string, saw uint64) {
	waiting, done := context.WithTimeout(ctx, retryMismatched)
	defer done()
	for _, service := range services {
		changed := s.o.View.Missing(service)
		if e, ok := s.o.View.Get(service); ok {
			if e.Record.Index > saw {
				return
			}
			changed = e.Changed()
		}
		go func() {
			select {
			case <-changed:
				done()
			case <-waiting.Done():
			}
		}()
	}
	<-waiting.Done()
}
