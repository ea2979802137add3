package replica

import (
	"errors"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Status is the state of this agent. The supervisor and the jobs of its replica set
// it, everybody reads it.
type Status struct {
	mu       sync.Mutex
	database conf.DatabaseStatus
	mode     conf.Mode
	event    string
	err      error
	since    time.Time // of database and mode, in normal mode of the event
	lkgErr   error     // why the file that was found at start is not used; cleared by the next good write

	schemas error         // which files of the schema directory are not loaded
	leader  bool          // there was one when it was noted last
	changed chan struct{} // closed and replaced at each transition
}

// State is a Status at one moment.
type State struct {
	Database conf.DatabaseStatus
	Mode     conf.Mode
	Event    string
	Err      error
	LKGErr   error
	Schemas  error // which files of the schema directory are not loaded
	Since    time.Time
	Changed  <-chan struct{} // closed at the next transition
}

// NewStatus is that of an agent that starts.
func NewStatus() *Status {
	return &Status{database: conf.DatabaseHealthy, mode: conf.ModeReadOnly, event: "starting", since: time.Now(), changed: make(chan struct{})}
}

// Set is one transition.
func (s *Status) Set(db conf.DatabaseStatus, mode conf.Mode, event string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(db, mode, event, err)
}

// SetUnlessLocked is Set, unless another process holds the database.
func (s *Status) SetUnlessLocked(db conf.DatabaseStatus, mode conf.Mode, event string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.database != conf.DatabaseLocked {
		s.set(db, mode, event, err)
	}
}

func (s *Status) set(db conf.DatabaseStatus, mode conf.Mode, event string, err error) {
	if s.database == db && s.mode == mode && s.event == event && errors.Is(err, s.err) {
		return
	}
	if s.database != db || s.mode != mode || mode == conf.ModeNormal {
		s.since = time.Now()
	}
	s.database, s.mode, s.event, s.err = db, mode, event, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// SetSchemasError records which files of the schema directory are not loaded, nil for none.
func (s *Status) SetSchemasError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.schemas == nil) == (err == nil) && (err == nil || s.schemas.Error() == err.Error()) {
		return
	}
	s.schemas = err
	close(s.changed)
	s.changed = make(chan struct{})
}

// NoteLeader is a transition when a leader appeared or is gone: the health follows from
// it.
func (s *Status) NoteLeader(known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == known {
		return
	}
	s.leader = known
	close(s.changed)
	s.changed = make(chan struct{})
}

// SetLKGError records why the last-known-good file that was found is not used.
func (s *Status) SetLKGError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lkgErr = err
}

// Get returns the present state.
func (s *Status) Get() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{s.database, s.mode, s.event, s.err, s.lkgErr, s.schemas, s.since, s.changed}
}

// Ready is nil in normal mode, and otherwise the error that a writer gets.
func (s *Status) Ready() error {
	st := s.Get()
	if st.Mode == conf.ModeNormal {
		return nil
	}
	e := conf.Errorf(conf.CodeReadOnly, "this agent is read-only (%s, database %s): %s", st.Mode, st.Database, st.Event).
		WithHint("reads go on from the last known good values; GET /api/config/health says more; try again later")
	e.Err = process.PublicCause(st.Err)
	return e
}

// statusOf maps a fault of the replica to what the seed's enum calls it.
func statusOf(err error) conf.DatabaseStatus {
	switch conf.CodeOf(err) {
	case conf.CodeLocked:
		return conf.DatabaseLocked
	case conf.CodeSchemaMismatch:
		return conf.DatabaseSchemaMismatch
	case conf.CodeCorrupt:
		return conf.DatabaseCorrupted
	default: // a port in use, a full disk: the stored bytes are not at fault
		return conf.DatabaseHealthy
	}
}
