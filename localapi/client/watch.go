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
	Gone     bool // there is no document: deleted, or never configured
	Document Document
}

const (
	watchWait = 30 * time.Second
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second

	// noTag is a tag that no document has: with it a document that appears
	// between two requests is answered at once, and not waited past.
	noTag = `"gone"`
)

// Watch yields the present state of a service and then every newer one, until
// ctx is done or the caller stops. States that were replaced while the caller
// was busy or the agent away are skipped, the newest never is; an older one of
// the same epoch (from an agent that just restarted) is not yielded again.
//
// An agent that cannot be reached yields one error per outage, and the watch
// goes on by itself, with a growing pause between attempts. Errors that no
// repetition cures (a bad name, a wrong token) end it.
func (c *Client) Watch(ctx context.Context, service string) iter.Seq2[Event, error] {
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
	c       *Client
	service string

	tag     string // of what was seen last; "" before anything
	version uint64
	epoch   string
	known   bool // a state was yielded
	gone    bool // and that was the last one

	down  bool          // an outage was told
	pause time.Duration // before the next attempt in an outage
	again time.Duration // before the next request
}

// next asks once. news says whether event is worth telling; an error is set at
// most once an outage.
func (w *watch) next(ctx context.Context) (event Event, news bool, err error) {
	wait := watchWait
	if !w.known || w.down {
		wait = 0 // the state of now is wanted, not the next one
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
		told := w.down
		w.down = true
		w.again = jitter(w.pause)
		w.pause = min(2*w.pause, lastWait)
		if told && !permanent(err) {
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
		w.again = jitter(lastWait / 5) // the agent does not wait: do not ask in a loop
	}
	return event, news, nil
}

// older says whether doc is what an agent that just restarted has from its
// last-known-good file, while this watch has seen a newer one.
func (w *watch) older(doc Document) bool {
	return doc.Metadata.Epoch == w.epoch && doc.Metadata.Version < w.version
}

// permanent says whether repeating the same request is of no use.
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

// sleep waits for d and says whether ctx lasted as long.
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
