package localapi

import (
	"strconv"
	"time"
)

// Source is where the server finds documents: the agent's view. All methods are
// called from request goroutines and must not block; Get and State must not
// allocate.
type Source interface {
	// Get finds the newest document of a service, and the channel that is closed
	// when a newer one has replaced it or it is gone. Deleted and unconfigured
	// services have documents too. Without one, doc is nil and ok false.
	Get(service string) (doc *Document, changed <-chan struct{}, ok bool)
	// Missing is the channel that is closed when a service that has no document
	// now gets one, at the latest. It may be closed earlier, at any change.
	Missing(service string) <-chan struct{}
	// Names lists the services that have a document, in any order. It serves
	// error messages and may be slow.
	Names() []string
	// State tells of the whole snapshot; nil is allowed before there is one.
	State() *State
}

// State is what every answer says of the snapshot that it came from. It is
// immutable: the agent replaces it when the snapshot changes, and each second
// for the age.
type State struct {
	epoch, source, age []string // header values, nil when not known
	index              uint64
	lag                time.Duration
}

// NewState makes a State: the epoch; the source ("replica", "lkg", "default", or
// "" before there is any); the log index; and the time since this agent last
// heard from a leader, negative when it never did (then X-Config-Age is left out).
func NewState(epoch, source string, index uint64, age time.Duration) *State {
	s := &State{index: index, lag: age}
	if epoch != "" {
		s.epoch = []string{epoch}
	}
	if source != "" {
		s.source = []string{source}
	}
	if age >= 0 {
		s.age = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	}
	return s
}
