package ofrep

import (
	"net/http"
	"time"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// event is the data of an event: ask for all flags again.
type event struct {
	Type string `json:"type"`
	ETag string `json:"etag,omitempty"` // of all flags; without it the service is gone
}

// events tells when to ask for all flags again: once at the beginning, unless the caller
// has seen what there is, and at each change. A slow caller skips changes.
func (o *room) events(w http.ResponseWriter, r *http.Request) {
	service, own := o.service(r)
	if conf.CheckService(service) != nil {
		o.absent(w, r, service, "", own, nil) // it can never appear
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	st := localapi.NewEventStream(w)
	if st.Comment("holdfast") != nil {
		return
	}
	beat := time.NewTicker(localapi.Heartbeat)
	defer beat.Stop()
	const nothing, absent = "", "absent"
	seen, told := r.Header.Get("Last-Event-ID"), nothing
	for {
		missing := o.server.Source().Missing(service) // before Get: a service that appears in between closes it
		doc, changed, ok := o.server.Source().Get(service)
		if !ok {
			changed = missing
		}
		tag, e := absent, event{Type: "refetchEvaluation"}
		if f := o.flags(service); f != nil {
			b, err := f.all()
			if err != nil {
				return // all says why
			}
			doc, tag, e.ETag = f.doc, b.tag, b.tag
		}
		switch {
		case tag == told, tag == absent && told == nothing && (seen == "" || doc == nil):
			// Nothing new; or it was missing and still is, or nobody knows yet.
		case doc != nil && seen != "" && o.server.HasSeen(seen, doc, tag):
			told = tag
		default:
			id := ""
			if doc != nil {
				id = doc.EventID(tag)
			}
			if st.Send(id, "message", encode(e)) != nil {
				return
			}
			seen, told = "", tag
		}
		if !st.Await(r.Context(), nil, changed, beat.C) { // the request ends when the server stops
			return
		}
	}
}
