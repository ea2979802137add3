package observer

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/replication/conf"
)

var errNotYet = errors.New("not connected yet")

// brokerLink is the state of the connection to the broker.
type brokerLink struct {
	subscriber *broker.Subscriber // nil without a broker

	mu         sync.Mutex
	err        error           // why there is no connection; nil when there is one
	errSince   time.Time       // when err last became nil or non-nil
	leaderless time.Time       // since when the health that the broker repeats has been of a cluster without a leader
	confirmed  map[string]bool // services whose newest update came over this connection
}

func newBrokerLink() *brokerLink {
	return &brokerLink{err: errNotYet, errSince: time.Now(), confirmed: map[string]bool{}}
}

// set records that the connection is up (nil), or why it is not.
func (l *brokerLink) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (err == nil) != (l.err == nil) {
		l.errSince = time.Now()
	}
	if err != nil { // not for nil: retained messages can come before that call
		clear(l.confirmed)
		l.leaderless = time.Time{}
	}
	l.err = err
}

func (l *brokerLink) brokerErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// leaderGrace is longer than an election takes.
const leaderGrace = 3 * time.Second

// setHealth reads the health that the broker repeats, of the leader or of the agent whose
// broker it is. What is none says nothing; nor does a fault of the database of one agent.
func (l *brokerLink) setHealth(payload []byte) {
	var h conf.Health
	if json.Unmarshal(payload, &h) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case h.DatabaseStatus != conf.DatabaseHealthy || h.OperationalMode != conf.ModeReadOnly:
		l.leaderless = time.Time{}
	case l.leaderless.IsZero():
		l.leaderless = time.Now()
	}
}

// leaderLost reports whether that health has been of a cluster without a leader for
// longer than an election takes.
func (l *brokerLink) leaderLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.leaderless.IsZero() && time.Since(l.leaderless) > leaderGrace
}

// confirm records that the newest update of a service came over this connection.
func (l *brokerLink) confirm(service string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed[service] = true
}

// lacks reports whether the broker has not sent a service for the time wait after
// the connection came or ended.
func (l *brokerLink) lacks(service string, wait time.Duration, now time.Time) bool {
	if l.subscriber == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.confirmed[service] && now.Sub(l.errSince) > wait
}
