package agent

import (
	"errors"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// status is what this agent knows of its own state. The supervisor writes it,
// everybody reads it.
type status struct {
	mu       sync.Mutex
	database conf.DatabaseStatus
	mode     conf.Mode
	event    string
	err      error
	since    time.Time // of database and mode, in normal mode of the event
	lkgErr   error     // why the file that was found at start is not used; cleared by the next good write

	notify chan struct{} // closed and replaced at each transition
}

func newStatus() *status {
	return &status{database: conf.DatabaseHealthy, mode: conf.ModeReadOnly, event: "starting", since: time.Now(), notify: make(chan struct{})}
}

// set is one transition.
func (s *status) set(db conf.DatabaseStatus, mode conf.Mode, event string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.database == db && s.mode == mode && s.event == event && errors.Is(err, s.err) {
		return
	}
	if s.database != db || s.mode != mode || mode == conf.ModeNormal {
		s.since = time.Now()
	}
	s.database, s.mode, s.event, s.err = db, mode, event, err
	close(s.notify)
	s.notify = make(chan struct{})
}

func (s *status) setLKG(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lkgErr = err
}

func (s *status) get() (conf.DatabaseStatus, conf.Mode, string, error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.database, s.mode, s.event, s.err, s.lkgErr
}

// began is when the present state did.
func (s *status) began() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

// ready is nil in normal mode, and otherwise the refusal that a writer gets.
func (s *status) ready() error {
	db, mode, event, err, _ := s.get()
	if mode == conf.ModeNormal {
		return nil
	}
	e := conf.Errorf(conf.CodeReadOnly, "this agent is read-only (%s, database %s): %s", mode, db, event).
		WithHint("reads go on from the last known good values; GET /api/config/health says more; try again later")
	e.Err = publicCause(err)
	return e
}

// serving is nil while services read something better than schema defaults: it
// is the readiness of the local API, which outlives the replica.
func (s *supervisor) serving() error {
	if src := s.view.Load().Source; src == view.SourceLKG || (src == view.SourceReplica && s.loaded.Load()) {
		return nil
	}
	return s.down()
}

// publicCause keeps file paths and driver texts out of what callers get: the
// message of our own errors is written for them, that of others is not.
func publicCause(err error) error {
	if e, ok := errors.AsType[*conf.Error](err); ok {
		return errors.New(e.Message)
	}
	return nil
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
