package client

import (
	"context"
	"iter"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Event is one state of a watched service.
type Event struct {
	Service  string
	Gone     bool // it has no document: deleted, or never configured
	Document Document
}

const (
	watchWait = 30 * time.Second
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second

	// noTag is a tag that no document has: with it the response is immediate when a
	// document has appeared between two requests.
	noTag = `"gone"`

	sourceReplica = "replica" // X-Config-Source
)

// Watch yields the current state of a service and then every newer one, until ctx
// ends or the caller stops. States that were replaced while the caller was busy or
// the agent unreachable are skipped, the newest never is. An older one of the same
// epoch (from an agent that just restarted) is not yielded again.
//
// An unreachable agent yields one error per outage, and the watch continues with a
// growing pause between attempts. Permanent errors (a bad name, a wrong token) end
// it.
func (c Local) Watch(ctx context.Context, service string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := watch{c: c, service: service, pause: firstWait}
		for ctx.Err() == nil {
			event, news, err := w.next(ctx)
			if ctx.Err() != nil {
				return
			}
			if (news || err != nil) && !yield(event, err) {
				return
			}
			if err != nil && permanent(err) {
				return
			}
			if w.again > 0 && !sleep(ctx, w.again) {
				return
			}
		}
	}
}

// watch is the state of one Watch.
type watch struct {
	c       Local
	service string

	tag     string // of the last state; "" before the first
	version uint64
	epoch   string
	known   bool // a state was yielded
	gone    bool // and the last one had no document

	down  bool          // an outage was reported
	pause time.Duration // before the next attempt in an outage
	again time.Duration // before the next request
}

// next makes one request. news reports whether event is a new state; an outage has at
// most one error.
func (w *watch) next(ctx context.Context) (event Event, news bool, err error) {
	wait := watchWait
	if !w.known || w.down {
		wait = 0 // the current state, not the next one
	}
	event = Event{Service: w.service}
	began := time.Now()
	res, err := w.c.document(ctx, w.service, w.tag, wait)
	var doc Document
	if err == nil && res.status != http.StatusNotModified {
		doc, err = w.c.decodeDocument(res)
	}
	code := conf.CodeOf(err)
	if err != nil && code != conf.CodeNotFound {
		reported := w.down
		w.down = true
		w.again = jitter(w.pause)
		w.pause = min(2*w.pause, lastWait)
		if reported && !permanent(err) {
			err = nil
		}
		return event, false, err
	}
	w.down, w.pause, w.again = false, firstWait, 0
	switch {
	case code == conf.CodeNotFound:
		event.Gone = true
		news = !w.known || !w.gone
		w.known, w.gone, w.tag = true, true, noTag
	case res.status == http.StatusNotModified:
	case w.older(doc):
		w.again = jitter(firstWait)
		return event, false, nil
	default:
		event.Document = doc
		news = !w.known || w.gone || doc.ETag == "" || doc.ETag != w.tag
		w.known, w.gone, w.tag = true, false, doc.ETag
		w.version, w.epoch = doc.Metadata.Version, doc.Metadata.Epoch
	}
	if !news && wait > 0 && time.Since(began) < firstWait {
		w.again = jitter(lastWait / 5) // the agent does not wait: do not loop
	}
	return event, news, nil
}

// older reports whether this watch has seen a newer version than doc. An agent that
// just restarted may serve an older one from its last-known-good file. What it has from
// its replica is the truth: the versions of an observer begin again when it loses its
// files.
func (w *watch) older(doc Document) bool {
	return doc.Metadata.Epoch == w.epoch && doc.Metadata.Version < w.version && doc.Source != sourceReplica
}

// permanent reports whether the same request can never succeed.
func permanent(err error) bool {
	switch conf.CodeOf(err) {
	case conf.CodeMalformed, conf.CodeInvalid, conf.CodeUnauthenticated, conf.CodeDenied,
		conf.CodeMethod, conf.CodeUnsupported, conf.CodeUsage:
		return true
	default:
		return false
	}
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// sleep waits for d. It returns false when ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
