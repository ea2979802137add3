package reporter

import (
	"time"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	maxWorkers = 64   // of one service
	maxKeys    = 1024 // of which reads are remembered
)

// tracked is a service that this agent is an instance of. The lock of the Reporter guards it.
type tracked struct {
	service string
	beside  bool // the health is that of this service

	doc      *localapi.Document
	epoch    string
	version  uint64
	wasRead  bool
	wasWell  bool // the service was well when it got this version, or has been since
	workers  map[string]conf.Ack
	status   conf.InstanceStatus
	since    time.Time
	word     conf.Ack // that status is from; zero without one
	standing Standing

	acknowledges bool                 // it ever did
	reads        map[string]time.Time // by key, to the hour
	told         map[string]time.Time // what the leader of this term knows of it
	dirty        bool                 // what was reported last is outdated
}

func newTracked(service string, beside bool) *tracked {
	return &tracked{service: service, beside: beside, reads: map[string]time.Time{}, told: map[string]time.Time{}}
}

// follow notes that doc is served now.
func (t *tracked) follow(doc *localapi.Document, now time.Time, health state) {
	if doc != t.doc {
		if t.doc != nil {
			if !t.wasRead && t.doc.WasRead() && doc.Epoch() == t.epoch && doc.Version() == t.version {
				t.wasRead = true // the same, with another signature
				t.settle(now)
			}
			t.noteReads(now)
		}
		t.doc = doc
	}
	if doc.Epoch() != t.epoch || doc.Version() != t.version {
		t.epoch, t.version = doc.Epoch(), doc.Version()
		t.wasRead, t.wasWell = false, health.is == conf.HealthHealthy
		t.workers, t.word = nil, conf.Ack{}
		t.status, t.since, t.dirty = conf.InstanceReceived, now, true
	}
	if !t.wasRead && doc.WasRead() {
		t.wasRead = true
		t.settle(now)
	}
}

// noteReads takes what was read of the document.
func (t *tracked) noteReads(now time.Time) {
	hour := now.Truncate(time.Hour)
	for _, key := range t.doc.TakeReads() {
		if _, known := t.reads[key]; known || len(t.reads) < maxKeys {
			t.reads[key] = hour
		}
	}
}

// newReads are reads that the leader does not know of, at most n.
func (t *tracked) newReads(n int) (out []conf.KeyRead) {
	for _, key := range conf.SortedKeys(t.reads) {
		at := t.reads[key]
		if len(out) == n {
			break
		}
		if !at.Equal(t.told[key]) {
			out = append(out, conf.KeyRead{Key: key, At: conf.FormatTime(at)})
		}
	}
	return out
}

// acknowledge takes the word of a worker on the version that is served.
func (t *tracked) acknowledge(a conf.Ack, now time.Time) (changed bool, err error) {
	if was, ok := t.workers[a.Worker]; ok && sameWord(was, a) {
		return false, nil
	} else if !ok && len(t.workers) >= maxWorkers {
		return false, conf.Errorf(conf.CodeRateLimited, "%d workers of %s have acknowledged version %d already", maxWorkers, t.service, t.version).
			WithHint("name workers by their place, such as w1, and not by their process id")
	}
	if t.workers == nil {
		t.workers = map[string]conf.Ack{}
	}
	t.workers[a.Worker] = a
	t.settle(now)
	return true, nil
}

func sameWord(a, b conf.Ack) bool {
	if a.Status != b.Status || a.Reason != b.Reason || len(a.Details) != len(b.Details) {
		return false
	}
	for i := range a.Details {
		if a.Details[i] != b.Details[i] {
			return false
		}
	}
	return true
}

// badness orders what workers say: the worst counts.
var badness = map[conf.InstanceStatus]int{conf.InstanceApplied: 1, conf.InstanceApplying: 2, conf.InstanceRejected: 3}

// settle finds the status from what is known.
func (t *tracked) settle(now time.Time) {
	status, word := conf.InstanceReceived, conf.Ack{}
	if t.wasRead {
		status = conf.InstanceRead
	}
	for _, name := range conf.SortedKeys(t.workers) {
		if a := t.workers[name]; badness[a.Status] > badness[word.Status] {
			status, word = a.Status, a
		}
	}
	if status != t.status {
		t.since = now
	}
	if status != t.status || word.Worker != t.word.Worker || !sameWord(word, t.word) {
		t.dirty = true
	}
	t.status, t.word = status, word
}
