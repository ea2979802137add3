package lkg

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestDutyCycle(t *testing.T) {
	w := NewWriter("", nil, nil, nil, WriterOptions{})
	for took, want := range map[time.Duration]time.Duration{
		0: 250 * time.Millisecond, time.Millisecond: 250 * time.Millisecond, time.Second: 9 * time.Second,
	} {
		if got := w.pauseAfter(took); got != want {
			t.Errorf("%s after %s, want %s", got, took, want)
		}
	}
}

type ready struct{}

func (ready) Next(context.Context, func() uint64) (*Content, error) { return &Content{Index: 1}, nil }

// A disk that hangs in a write must not block the stop of the agent.
func TestFlushGivesUpOnAHungDisk(t *testing.T) {
	dir := t.TempDir() // removed after the bubble's goroutines have ended
	synctest.Test(t, func(t *testing.T) {
		w := NewWriter(filepath.Join(dir, "f"), []byte("k"), ready{}, slog.New(slog.DiscardHandler), WriterOptions{})
		w.writing <- struct{}{} // the write that hangs
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if s := w.Status(); s.Valid {
			t.Fatalf("%+v", s)
		}
		<-w.writing
		if err := w.Flush(t.Context()); err != nil || !w.Status().Valid {
			t.Fatalf("after it came back: %v", err)
		}
	})
}

// The name of a temporary file must not make one error look like many.
func TestUnwrittenTellsTheSameEachTime(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "none", "f"), ""
	for range 3 {
		_, err := replaceFile(a, 0o600, nil)
		if err == nil || (b != "" && err.Error() != b) {
			t.Fatalf("got %v after %s", err, b)
		}
		b = err.Error()
	}
	if code := conf.CodeOf(writeError("f", syscall.ENOSPC)); code != conf.CodeStorageFull {
		t.Fatalf("a full disk is %s", code)
	}
}
