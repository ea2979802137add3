package main

import (
	"encoding/json"
	"net/http"
	"os"
)

// answer is what the bare server writes: the agent's own answer, recorded.
type answer struct {
	ETag      string      `json:"etag"`
	Header    http.Header `json:"header"`     // of a 200
	Header304 http.Header `json:"header_304"` // of a 304
	Body      []byte      `json:"body"`
}

func serveBare(addr, spec string) error {
	h, err := bareHandler(spec)
	if err != nil {
		return err
	}
	return http.ListenAndServe(addr, h)
}

// bareHandler is the other side of a read: no routing, no lookup, header values
// that were made once, bytes that are there.
func bareHandler(spec string) (http.Handler, error) {
	data, err := os.ReadFile(spec)
	if err != nil {
		return nil, err
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, err
	}
	a.Header.Del("Date") // net/http writes it
	a.Header304.Del("Date")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if v := r.Header["If-None-Match"]; len(v) == 1 && v[0] == a.ETag {
			for k, v := range a.Header304 {
				h[k] = v
			}
			w.WriteHeader(http.StatusNotModified)
			return
		}
		for k, v := range a.Header {
			h[k] = v
		}
		_, _ = w.Write(a.Body)
	}), nil
}
