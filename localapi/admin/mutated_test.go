package admin_test

import (
	"flag"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/testenv/mutate"
)

var mutations = flag.Int("mutations", 5000, "requests of TestMutatedRequests")

// TestMutatedRequests hands over what nobody sends on purpose. Run it with
// -mutations 1000000.
func TestMutatedRequests(t *testing.T) {
	b := newBackend()
	h, err := admin.New(b.options())
	if err != nil {
		t.Fatal(err)
	}
	var seeds []mutate.Seed
	for _, r := range admin.Routes() {
		target, body := sample(r)
		for _, token := range []string{writeToken, readToken} {
			seeds = append(seeds, mutate.Seed{Method: r.Method, Target: target, Body: body, Header: []string{"X-API-Token: " + token, "Content-Type: application/json"}})
		}
	}
	m := mutate.New(1, seeds)
	statuses := map[int]int{}
	var before, after runtime.MemStats
	for i := range *mutations {
		r := m.Next(t.Context())
		what := mutate.Describe(r)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		statuses[w.Code]++
		if w.Code == 500 || w.Code < 200 {
			t.Fatalf("request %d: %d %s\n%s", i, w.Code, w.Body, what)
		}
		b.calls, b.audit = nil, nil
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
	for _, want := range []int{200, 400, 401, 403, 404, 405, 415, 422} {
		if statuses[want] == 0 && *mutations >= 5000 {
			t.Errorf("none was answered with %d: %v", want, statuses)
		}
	}
}
