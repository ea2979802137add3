package localapi

import (
	"context"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/mutate"
)

var mutations = flag.Int("mutations", 5000, "requests of TestMutatedRequests")

// TestMutatedRequests hands over what nobody sends on purpose. Run it with
// -mutations 1000000.
func TestMutatedRequests(t *testing.T) {
	source := newMemory(&conf.Record{
		Service: "stt-worker", Version: 7, Epoch: testEpoch, Config: json.RawMessage(`{"a":{"b":[1,"two",null]},"name":"x","n":0.5}`), Checksum: "c0ffee",
	})
	s, err := New(Options{Service: "stt-worker", Source: source, Token: func() string { return "secret" }, MaxWait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var seeds []mutate.Seed
	for _, path := range []string{
		"/v1/config", "/v1/config/stt-worker", "/v1/config/stt-worker?wait=1ms", "/v1/config/stt-worker/name?raw", "/v1/config/stt-worker/a.b", "/v1/env/stt-worker",
		"/v1/env", "/v1/watch/stt-worker", "/v1/keys", "/healthz", "/readyz", "/metrics", "/v1/config/stt-worker?explain=1",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			seeds = append(seeds, mutate.Seed{Method: method, Target: path, Header: []string{"Host: localhost", "X-Holdfast-Token: secret", `If-None-Match: W/"x"`}})
		}
	}
	m := mutate.New(2, seeds)
	statuses := map[int]int{}
	var before, after runtime.MemStats
	for i := range *mutations {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond) // ends streams
		r := m.Next(ctx)
		if r.Host == "example.com" {
			r.Host = "localhost"
		}
		if i%8 != 0 {
			r.ContentLength = 0 // a body is refused before all else
		}
		what := mutate.Describe(r)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		cancel()
		statuses[w.Code]++
		if w.Code == 500 {
			t.Fatalf("request %d: %d %s\n%s", i, w.Code, w.Body, what)
		}
		switch i {
		case *mutations / 4:
			runtime.GC()
			runtime.ReadMemStats(&before)
		case *mutations - 1:
			runtime.GC()
			runtime.ReadMemStats(&after)
		}
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes more on the heap than after a quarter of it", grown)
	}
	t.Logf("%d requests: %v", *mutations, statuses)
	for _, want := range []int{200, 304, 400, 401, 403, 404, 405} {
		if statuses[want] == 0 && *mutations >= 5000 {
			t.Errorf("none was answered with %d: %v", want, statuses)
		}
	}
}
