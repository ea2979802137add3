package observer

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Where an update came from, as the log says it.
const (
	fromBroker = "broker"
	fromMember = "member"
)

// acceptedState has the newest accepted record of each service, and publishes them in
// the view.
type acceptedState struct {
	log      *slog.Logger
	alarms   *alarm.Set
	schemas  map[string][]byte // of the schema directory: which secrets come from the environment
	view     *documents.View
	link     *brokerLink
	receiver *updates.Receiver
	writer   *lkg.Writer
	fetch    *fetcher

	wakePublish chan struct{} // capacity 1: there is something to publish

	// accept holds mu while a message is verified: updates of the broker and of a member
	// must be published in the order in which they were accepted.
	mu           sync.Mutex
	index        uint64                  // counts publications; the index of the file too
	epoch        string                  // of the last accepted update
	current      map[string]*conf.Record // newest by service
	unpublished  map[string]*conf.Record // those of current that are not in the view yet
	onlyFromFile map[string]bool         // served from the file or the schema, and not confirmed since the start
	warned       map[updates.Reason]time.Time
}

func newAcceptedState(v *documents.View, raw map[string][]byte, link *brokerLink, log *slog.Logger) *acceptedState {
	return &acceptedState{
		log: log, alarms: alarm.NewSet(log), schemas: raw, view: v, link: link, wakePublish: make(chan struct{}, 1),
		current: map[string]*conf.Record{}, unpublished: map[string]*conf.Record{}, onlyFromFile: map[string]bool{}, warned: map[updates.Reason]time.Time{},
	}
}

// restore publishes the records of the services from the last-known-good file, and
// returns them.
func (a *acceptedState) restore(loaded *lkg.Content, services []string) (recs []*conf.Record) {
	for _, rec := range loaded.Records {
		if rec.Version > 0 && slices.Contains(services, rec.Service) {
			rec.Schema = a.schemas[rec.Service]
			recs = append(recs, rec)
			a.current[rec.Service] = rec
			a.onlyFromFile[rec.Service] = true
		}
	}
	a.index, a.epoch = loaded.Index, loaded.Epoch
	a.view.Reset(view.SourceLKG, loaded.Epoch, loaded.Index, recs)
	return recs
}

// serveDefaults publishes the defaults of the schema directory: there is no valid file.
func (a *acceptedState) serveDefaults(cache *schema.Cache, services []string) {
	var recs []*conf.Record
	for _, s := range services {
		raw := a.schemas[s]
		if raw == nil {
			continue
		}
		if r, err := schemas.DefaultRecord(cache, s, raw); err == nil {
			recs = append(recs, r)
			a.onlyFromFile[s] = true
		}
	}
	if len(recs) > 0 {
		a.log.Warn("serving the schemas' defaults until the first update comes", "services", len(recs))
		a.view.Reset(view.SourceDefault, "", 0, recs)
	}
}

// accept runs verify, stores what it accepts and wakes runPublish. It returns the
// first rejection.
func (a *acceptedState) accept(from string, verify func() []updates.Result) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var first error
	for _, v := range verify() {
		if v.Err != nil {
			a.warn(v, from)
			if v.Reason == updates.ReasonSignature {
				a.fetch.requestKeys()
			}
			if v.Reason == updates.ReasonChannel {
				a.fetch.requestService(v.Service) // a member has what is stable
			}
			if first == nil {
				first = v.Err
			}
			continue
		}
		if v.Confirmed == "" {
			continue
		}
		delete(a.onlyFromFile, v.Confirmed)
		if from == fromBroker {
			a.link.confirm(v.Confirmed)
		}
		if v.Record != nil {
			v.Record.Schema = a.schemas[v.Confirmed]
			a.current[v.Confirmed], a.unpublished[v.Confirmed], a.epoch = v.Record, v.Record, v.Record.Epoch
		}
		if v.Gap && from == fromBroker {
			a.fetch.requestService(v.Confirmed)
		}
	}
	if len(a.unpublished) > 0 || len(a.onlyFromFile) == 0 && a.view.Load().Source != view.SourceReplica {
		signal(a.wakePublish)
	}
	return first
}

// runPublish publishes what accept stored, until ctx ends.
func (a *acceptedState) runPublish(ctx context.Context) {
	for {
		select {
		case <-a.wakePublish:
			a.publish(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// saveTimeout is how long the disk may delay an update.
const saveTimeout = 2 * time.Second

// publish makes updates durable, then visible: after a kill, the next start
// has what a service has read. An update that cannot be written is still published.
func (a *acceptedState) publish(ctx context.Context) {
	a.mu.Lock()
	recs := slices.Collect(maps.Values(a.unpublished))
	clear(a.unpublished)
	live := len(a.onlyFromFile) == 0 && a.epoch != ""
	if len(recs) > 0 {
		a.index++
	}
	c := &lkg.Content{
		Epoch: a.epoch, GeneratedAt: time.Now(), Index: a.index, PastEpochs: a.receiver.Past(), Records: slices.Collect(maps.Values(a.current)),
	}
	a.mu.Unlock()
	if len(recs) > 0 {
		saving, cancel := context.WithTimeout(ctx, saveTimeout)
		err := a.writer.Save(saving, c)
		cancel()
		switch {
		case err == nil:
			a.alarms.Clear("")
		case ctx.Err() == nil:
			a.alarms.Raise(alarm.LKGBehind, "", err)
		}
		a.view.Advance(c.Index, recs)
	}
	if live && a.view.Load().Source != view.SourceReplica {
		a.view.Reset(view.SourceReplica, c.Epoch, c.Index, nil)
	}
}

// warn logs a rejection, at most one per reason and minute.
func (a *acceptedState) warn(v updates.Result, from string) {
	if now := time.Now(); now.Sub(a.warned[v.Reason]) > time.Minute {
		a.warned[v.Reason] = now
		a.log.Warn("update rejected", "reason", v.Reason, "from", from, "err", v.Err, "hint", conf.HintOf(v.Err))
	}
}
