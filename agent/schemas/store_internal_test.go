package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func TestModelHash(t *testing.T) {
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	if got, want := modelHash(func(func(string, []byte) bool) {}), sum(`{}`); got != want {
		t.Errorf("no schemas: %s, want %s", got, want)
	}
	got := modelHash(func(yield func(string, []byte) bool) {
		_ = yield("router", []byte(`{}`)) && yield("stt", []byte(`{"a":1}`)) && yield("stt-worker", []byte(`{"type":"object"}`))
	})
	if want := sum(`{"router":{},"stt":{"a":1},"stt-worker":{"type":"object"}}`); got != want {
		t.Errorf("modelHash = %s, want %s", got, want)
	}
}
