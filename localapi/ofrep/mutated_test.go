package ofrep

import (
	"context"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv/mutate"
)

var mutations = flag.Int("mutations", 3000, "requests of TestMutatedQuestions")

// TestMutatedQuestions hands over what nobody sends on purpose: each gets an answer, a
// POST one that providers can read, and none a secret. Run it with -mutations 1000000.
func TestMutatedQuestions(t *testing.T) {
	m := newMemory()
	m.set("stt", 7, config, declared)
	s, _ := start(t, m)
	var seeds []mutate.Seed
	for _, prefix := range []string{"", "/s/stt"} {
		for _, path := range []string{one + "rate", one + "db.port", one + "api_key", all, all + "?flagConfigEtag=x"} {
			seeds = append(seeds, mutate.Seed{
				Method: "POST", Target: prefix + path, Header: []string{"Host: localhost", "Content-Type: application/json", `If-None-Match: "x"`},
				Body: `{"context":{"targetingKey":"user-1","plan":{"a":[1,null]},"id":12345678901234567890}}`,
			})
		}
		seeds = append(seeds, mutate.Seed{Method: "GET", Target: prefix + eventsPath, Header: []string{"Host: localhost", "Last-Event-ID: " + epoch + ":7:x"}})
	}
	requests := mutate.New(3, seeds)
	statuses := map[int]int{}
	for i := range *mutations {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond) // ends streams
		r := requests.Next(ctx)
		if r.Host == "example.com" {
			r.Host = "localhost"
		}
		what := mutate.Describe(r)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		cancel()
		statuses[w.Code]++
		if w.Code >= 500 || strings.Contains(w.Body.String(), "canary") {
			t.Fatalf("request %d: %d %s\n%s", i, w.Code, w.Body, what)
		}
		var got struct{ Metadata json.RawMessage }
		asked := r.Method == "POST" && (r.URL.Path == all || r.URL.Path == one+"rate")
		if asked && w.Code != 304 && (json.Unmarshal(w.Body.Bytes(), &got) != nil || got.Metadata == nil) {
			t.Fatalf("request %d: %d without metadata: %s\n%s", i, w.Code, w.Body, what)
		}
	}
	if statuses[200] == 0 || statuses[400] == 0 || statuses[404] == 0 || statuses[403] == 0 {
		t.Errorf("the requests are of one kind: %v", statuses)
	}
	t.Logf("answers: %v", statuses)
}
