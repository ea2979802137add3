package store

import (
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
)

func TestSmoke(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	for _, c := range story(d, 200) {
		d.apply(c)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := content(t, s)
	path := s.opts.Path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	same(t, "after a restart", want, content(t, s))
	_ = command.KindEdit
}
