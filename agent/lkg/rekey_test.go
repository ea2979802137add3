package lkg

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

type fixed struct{ c *Content }

func (f fixed) Next(ctx context.Context, after func() uint64) (*Content, error) {
	if f.c.Index > after() {
		return f.c, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// After a rotation the file is written again, also when the old key had signed it.
func TestRekey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.lkg.json")
	old, next := []byte("an old key of thirty-two bytes .."), []byte("a newer key of thirty-two bytes .")
	src := fixed{&Content{Epoch: "e", GeneratedAt: time.Now(), Index: 7}}
	w := NewWriter(path, old, src, slog.New(slog.DiscardHandler), WriterOptions{})
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, next); err == nil {
		t.Fatal("loaded with a key that it was not written with")
	}
	c, err := Load(path, next, old)
	if err != nil {
		t.Fatal(err)
	}
	// As after a restart: the file is of the old key.
	if c.KeyIndex != 1 {
		t.Fatalf("signed by key %d", c.KeyIndex)
	}
	w = NewWriter(path, old, src, slog.New(slog.DiscardHandler), WriterOptions{Loaded: c})
	if !w.Status().Valid {
		t.Fatal("the file of the old key is not valid")
	}
	if !w.Rekey(next) || w.Rekey(next) {
		t.Fatal("Rekey does not tell what changed")
	}
	if w.Status().Valid {
		t.Fatal("the file of the old key is still valid after Rekey")
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, next); err != nil || !w.Status().Valid {
		t.Fatalf("after Rekey: %v", err)
	}
}
