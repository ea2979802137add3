package localapi

import (
	"strconv"
	"time"
)

// Source provides the documents: it is the agent's view. All methods are called
// from request goroutines and must not block; Get and State must not allocate.
type Source interface {
	// Get returns the newest document of a service, and the channel that is closed
	// when it is replaced or dropped. Deleted and unconfigured services have
	// documents too. Without one, doc is nil and ok false.
	Get(service string) (doc *Document, changed <-chan struct{}, ok bool)
	// Missing returns the channel that is closed when a service without a document
	// gets one, at the latest. It may be closed earlier, at any change.
	Missing(service string) <-chan struct{}
	// Names lists the services that have a document, in any order. It serves
	// error messages and may be slow.
	Names() []string
	// State describes the whole snapshot; nil before there is one.
	State() *State
}

// State is what every response says about the snapshot that it is from. It is
// immutable: the agent replaces it when the snapshot changes, and each second for
// the age.
type State struct {
	epoch, source, age []string // header values, nil when unknown
	index              uint64
	lag                time.Duration
}

// NewState makes a State: the epoch; the source ("replica", "lkg", "default", or
// "" before there is any); the log index; and the time since the last contact to a
// leader, negative when there was none (then X-Config-Age is left out).
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
