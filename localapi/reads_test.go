package localapi

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
)

// What goes out is noted, with its key; what does not is not.
func TestReadsAreNoted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path, etag string
		want               string
	}{
		{"GET", "/v1/config/svc", "", `[""]`},
		{"GET", "/v1/config/svc", "*", `[""]`},
		{"HEAD", "/v1/config/svc", "", `[]`},
		{"GET", "/v1/config/svc/port", "", `["port"]`},
		{"GET", "/v1/config/svc/port?raw", "", `["port"]`},
		{"GET", "/v1/config/svc/none", "", `[]`},
		{"GET", "/v1/env/svc", "", `[""]`},
		{"GET", "/v1/env/svc?format=json&prefix=A_", "", `[""]`},
		{"GET", "/v1/config/svc?unknown=1", "", `[]`},
	} {
		m := newMemory(record("svc", 7, `{"host":"h","port":1}`))
		doc, _, _ := m.Get("svc")
		s := newServer(t, m)
		req := httptest.NewRequest(c.method, "http://localhost"+c.path, nil)
		if c.etag != "" {
			req.Header.Set("If-None-Match", c.etag)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		was := doc.WasRead()
		got := doc.TakeReads()
		slices.Sort(got)
		if fmt.Sprintf("%q", got) != c.want || was != (c.want != "[]") {
			t.Errorf("%s %s: %d, %q, want %s", c.method, c.path, w.Code, got, c.want)
		}
		if doc.WasRead() || doc.TakeReads() != nil {
			t.Error("it is read again without a request")
		}
	}
}

func TestMarkReadAllocatesNothing(t *testing.T) {
	doc := (&Renderer{}).Render(record("svc", 7, `{"port":1}`))
	doc.MarkRead("port")
	if n := testing.AllocsPerRun(100, func() { doc.MarkRead(""); doc.MarkRead("port") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	doc.MarkRead("there.is.none")
	if got := fmt.Sprintf("%q", doc.TakeReads()); got != `["" "port"]` {
		t.Errorf("got %s", got)
	}
}
