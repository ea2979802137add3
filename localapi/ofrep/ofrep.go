package ofrep

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
)

const (
	maxBody    = 64 << 10 // of a question; the context in it decides nothing
	maxDrained = 1 << 20  // of a larger one, so that its sender reads the answer
	maxReading = 256      // bodies at the same time

	eventsPath = "/ofrep/v1/events"
)

// room answers the questions.
type room struct {
	server  localapi.Host
	schemas *schema.Cache
	reading chan struct{}
	made    sync.Map // of the newest document of each service that was asked for: string to *flags
}

// Register adds the room to a server of the local API. schemas has the compiled schemas
// of the process.
func Register(s *localapi.Server, schemas *schema.Cache) {
	s.Register(func(h localapi.Host) localapi.Room {
		return (&room{server: h, schemas: schemas, reading: make(chan struct{}, maxReading)}).routes()
	})
}

func (o *room) routes() localapi.Room {
	out := localapi.Room{Name: "ofrep", Fail: func(w http.ResponseWriter, r *http.Request, status int, err *conf.Error) {
		o.fail(w, r, status, failureOf(err), nil)
	}}
	for _, prefix := range []string{"", "/s/:service"} {
		out.Routes = append(out.Routes,
			localapi.Route{Method: http.MethodPost, Path: prefix + "/ofrep/v1/evaluate/flags/:key", Handle: o.one},
			localapi.Route{Method: http.MethodPost, Path: prefix + "/ofrep/v1/evaluate/flags", Handle: o.all},
			localapi.Route{Method: http.MethodGet, Path: prefix + eventsPath, Stream: true, Handle: o.events},
		)
	}
	return out
}

// service is what a request asks for: the service in its path, or that of the agent.
func (o *room) service(r *http.Request) (name string, own bool) {
	if name = r.PathValue("service"); name != "" {
		return name, false
	}
	return o.server.Service(), true
}

// flags returns the flags of a service, nil when it has no configuration.
func (o *room) flags(service string) *flags {
	doc, _, ok := o.server.Source().Get(service)
	if !ok || !doc.Exists() {
		o.made.Delete(service)
		return nil
	}
	if f, ok := o.made.Load(service); ok && f.(*flags).doc == doc {
		return f.(*flags)
	}
	f := newFlags(doc, o.schemas)
	o.made.Store(service, f)
	return f
}

// one answers for one flag.
func (o *room) one(w http.ResponseWriter, r *http.Request) {
	if status, f := o.read(w, r); f != nil {
		o.fail(w, r, status, f, nil)
		return
	}
	key := r.PathValue("key")
	service, own := o.service(r)
	f := o.flags(service)
	if f == nil {
		o.absent(w, r, service, key, own, nil)
		return
	}
	v, err := f.values()
	if err != nil {
		o.fail(w, r, http.StatusInternalServerError, unreadable(service, err), f)
		return
	}
	value, ok := v.one(key)
	if !ok {
		o.absent(w, r, service, key, own, f)
		return
	}
	if _, array := value.([]any); array {
		o.fail(w, r, http.StatusBadRequest, &failure{general, "the value of " + strconv.Quote(conf.Clip(key)) +
			" is an array, which is no type of a flag; read it at /v1/config/" + service + "/" + conf.Clip(key)}, f)
		return
	}
	f.doc.WriteVersion(w.Header())
	f.doc.MarkRead(key)
	o.send(w, http.StatusOK, f.evaluation(nil, v, key, value))
}

// all answers for all flags of a service.
func (o *room) all(w http.ResponseWriter, r *http.Request) {
	if status, f := o.read(w, r); f != nil {
		o.fail(w, r, status, f, nil)
		return
	}
	service, own := o.service(r)
	f := o.flags(service)
	if f == nil {
		o.absent(w, r, service, "", own, nil)
		return
	}
	b, err := f.all()
	if err != nil {
		o.fail(w, r, http.StatusInternalServerError, unreadable(service, err), f)
		return
	}
	f.doc.WriteVersion(w.Header())
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	asked := r.Header["If-None-Match"]
	switch {
	case localapi.MatchesTag(asked, b.tag):
		f.doc.MarkRead("")
		h.Set("Etag", b.tag)
		w.WriteHeader(http.StatusNotModified)
		return
	case !o.server.OwnVersions() && isLater(asked, f.doc):
		h["Etag"] = asked
		w.WriteHeader(http.StatusNotModified)
		return
	}
	f.doc.MarkRead("")
	h.Set("Etag", b.tag)
	o.send(w, http.StatusOK, b.body, []byte(`,"eventStreams":[{"type":"sse","endpoint":{"requestUri":"`+streamOf(r)+`"}}]}`))
}

// streamOf is the path of the stream for the caller of all.
func streamOf(r *http.Request) string {
	if name := r.PathValue("service"); name != "" {
		return "/s/" + name + eventsPath // a name that a service has, which needs no escapes
	}
	return eventsPath
}

// read reads and checks the body of a question. It may be absent, and so may all that is
// in it.
func (o *room) read(w http.ResponseWriter, r *http.Request) (status int, f *failure) {
	select {
	case o.reading <- struct{}{}:
		defer func() { <-o.reading }()
	default:
		w.Header().Set("Retry-After", "1")
		return http.StatusTooManyRequests, &failure{general, "too many questions under way"}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		w.Header().Set("Connection", "close")
		return http.StatusBadRequest, &failure{parseError, "the body ended early"}
	case len(body) > maxBody:
		w.Header().Set("Connection", "close")
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
		return http.StatusBadRequest, &failure{parseError, "the body is over the limit of " + strconv.Itoa(maxBody) + " bytes"}
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		media, _, err := mime.ParseMediaType(kind)
		if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
			return http.StatusBadRequest, &failure{parseError, "the Content-Type is not application/json"}
		}
	}
	if len(body) == 0 {
		return 0, nil
	}
	question, err := conf.ParseForeign(body, maxBody)
	if err != nil {
		return http.StatusBadRequest, &failure{parseError, err.Error()}
	}
	if about, ok := question["context"]; ok && about != nil {
		members, ok := about.(map[string]any)
		if !ok {
			return http.StatusBadRequest, &failure{invalidContext, "the context is no object"}
		}
		if _, ok := members["targetingKey"].(string); !ok && members["targetingKey"] != nil {
			return http.StatusBadRequest, &failure{invalidContext, "the targetingKey is no string"}
		}
	}
	return 0, nil
}
