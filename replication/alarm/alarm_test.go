package alarm_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/alarm"
)

// What is standing is logged once, each cause of it once, and its end once.
func TestSet(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := alarm.NewSet(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
	state := &alarm.Kind{Text: "bad", End: "good"}
	mild := &alarm.Kind{Text: "meh", End: "fine", Warn: true}
	for range 2 {
		s.Raise(state, "a b", errors.New("one"), "id", 1)
		s.Raise(mild, "a c", nil, "id", 2)
	}
	s.Raise(state, "a b", errors.New("two"), "id", 1)
	s.Raise(state, "x", nil)
	if s.Clear("y") || !s.Only("a ", "a b") || s.Only("a ", "a b") || !s.Clear("a b", "more", 3) || s.Clear("a b") || !s.Only("") {
		t.Error("what was cleared is wrong")
	}
	const want = "level=ERROR msg=bad id=1 err=one\nlevel=WARN msg=meh id=2\nlevel=ERROR msg=bad id=1 err=two\nlevel=ERROR msg=bad\n" +
		"level=INFO msg=fine id=2\nlevel=INFO msg=good id=1 more=3\nlevel=INFO msg=good\n"
	if out.String() != want {
		t.Errorf("log:\n%s\nwant:\n%s", out.String(), want)
	}
}
