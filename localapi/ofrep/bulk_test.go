package ofrep

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/localapi"
)

func TestAllFlags(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, _ := start(t, m)
	for prefix, stream := range map[string]string{"": "/ofrep/v1/events", "/s/stt": "/s/stt/ofrep/v1/events"} {
		w := ask(t, s, "POST", prefix+all, "{}")
		want := `{"flags":[` + strings.Join([]string{
			flagText("big", "1e+21"), flagText("dash-ed", "true"), flagText("db", `{"port":5432,"ratio":3.0}`),
			flagText("db.port", "5432"), flagText("db.ratio", "3.0"), flagText("labels", `{"app.rate":4.0}`), flagText("labels.app.rate", "4.0"), flagText("mode", ""),
			flagText("name", `""`), flagText("rate", "2.0"), flagText("retries", "2"),
		}, ",") + `],"metadata":` + meta + `,"eventStreams":[{"type":"sse","endpoint":{"requestUri":"` + stream + `"}}]}`
		if diff := cmp.Diff(want, w.Body.String()); w.Code != 200 || diff != "" {
			t.Errorf("%d %s", w.Code, diff)
		}
	}
	tag := ask(t, s, "POST", all, "").Header().Get("Etag")
	later := strings.Replace(tag, "-7-", "-8-", 1)
	if later == tag {
		t.Fatalf("ETag %s", tag)
	}
	for asked, status := range map[string]int{
		tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, strings.Trim(tag, `"`): 200,
		// A client with a later version keeps it; one of another epoch says nothing.
		later: 304, strings.Replace(tag, "-7-", "-6-", 1): 200, `"00000000` + later[9:]: 200, later[:len(later)-2] + `"`: 200,
	} {
		w := ask(t, s, "POST", all, "{}", "If-None-Match: "+asked)
		if w.Code != status || status == 304 && (w.Body.Len() > 0 || w.Header().Get("Etag") == "") {
			t.Errorf("%s: %d %v", asked, w.Code, w.Header())
		}
	}
	counting, _ := start(t, m, func(o *localapi.Options) { o.OwnVersions = true })
	if w := ask(t, counting, "POST", all, "{}", "If-None-Match: "+later); w.Code != 200 {
		t.Errorf("versions that begin anew: %d", w.Code)
	}
	m.set("stt", 8, config, declared)
	if next := ask(t, s, "POST", all, "").Header().Get("Etag"); next == tag {
		t.Error("another version has the same ETag")
	}
}

// stream is a stream of events that is read line by line.
type stream struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (e *stream) next() (id, data string) {
	e.t.Helper()
	name := ""
	for e.lines.Scan() {
		field, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch {
		case e.lines.Text() == "" && data != "":
			if name != "message" {
				e.t.Errorf("event %q", name)
			}
			return id, data
		case field == "id":
			id = value
		case field == "event":
			name = value
		case field == "data":
			data = value
		}
	}
	e.t.Fatalf("the stream ended: %v", e.lines.Err())
	return "", ""
}

// serve returns a function that opens streams of s.
func serve(t *testing.T, s *localapi.Server) (open func(path, lastID string) *stream) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	tr := &http.Transport{}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		tr.CloseIdleConnections()
	})
	return func(path, lastID string) *stream {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if lastID != "" {
			r.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%d %v", resp.StatusCode, resp.Header)
		}
		return &stream{t, bufio.NewScanner(resp.Body), cancel}
	}
}

func TestEvents(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, _ := start(t, m)
	open := serve(t, s)
	expect := func(e *stream, where string) (id string) {
		t.Helper()
		id, data := e.next()
		tag := ask(t, s, "POST", where+all, "").Header().Get("Etag")
		if want := `{"type":"refetchEvaluation","etag":` + string(encode(tag)) + `}`; data != want || tag == "" {
			t.Errorf("data %s, want %s", data, want)
		}
		return id
	}
	e := open(eventsPath, "")
	first := expect(e, "")
	m.set("stt", 8, `{"rate":3}`, declared)
	second := expect(e, "")
	// A reissued document, or one of another service, says nothing new.
	m.set("stt", 8, `{"rate":3}`, declared)
	m.set("other", 1, `{}`, "")
	m.set("stt", 9, `{"rate":4}`, declared)
	third := expect(e, "")

	// Who comes back is told what it missed, once, and what it has not.
	back := open("/s/stt"+eventsPath, first)
	if id := expect(back, "/s/stt"); id != third {
		t.Errorf("id %s, want %s", id, third)
	}
	had := open(eventsPath, third)
	older := open(eventsPath, strings.Replace(third, ":9:", ":10:", 1))
	foreign := open(eventsPath, "what is this")
	if id := expect(foreign, ""); id != third {
		t.Errorf("id %s, want %s", id, third)
	}
	m.set("stt", 11, `{"rate":5}`, declared)
	fourth := ""
	for i, e := range []*stream{e, back, had, older, foreign} {
		id := expect(e, "")
		if fourth != "" && id != fourth || id == second {
			t.Errorf("stream %d: id %s, want %s", i, id, fourth)
		}
		fourth = id
	}

	// A deletion has no ETag; what is not there is waited for.
	m.set("stt", 12, "", "")
	if id, data := e.next(); data != `{"type":"refetchEvaluation"}` || !strings.HasSuffix(id, ":12:absent") {
		t.Errorf("a deletion: %s %s", id, data)
	}
	missed := open(eventsPath, fourth)
	if _, data := missed.next(); data != `{"type":"refetchEvaluation"}` {
		t.Errorf("a deletion that was missed: %s", data)
	}
	new := open("/s/later"+eventsPath, "")
	m.set("later", 1, `{"a":1}`, "")
	expect(new, "/s/later")

	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for new.lines.Scan() {
		if strings.HasPrefix(new.lines.Text(), "data") {
			t.Errorf("at the end: %s", new.lines.Text())
		}
	}
	if err := new.lines.Err(); err != nil {
		t.Errorf("the stream was cut off: %v", err)
	}
}
