package store

import (
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Batches that come faster than Maintain moves them wait for a checkpoint; while another
// tool makes the checkpoints they do not.
func TestWALIsBounded(t *testing.T) {
	s := openNew(t)
	s.maintenance.truncateOver = 1 << 20
	d := newDriver(t, s)
	largest := func(service string) (bytes int64) {
		for v := range uint64(40) {
			s.maintenance.bounded = s.maintenance.bounded.Add(-boundEvery) // as if time had passed
			d.ok(d.edit(command.ActionPut, put(service, v, `{"k":`+tables.Quote(strings.Repeat("x", 300_000))+`}`)))
			bytes = max(bytes, s.file.walSize())
		}
		return bytes
	}
	if got := largest("a"); got > 4<<20 {
		t.Errorf("the WAL had %d bytes", got)
	}
	s.SetCheckpointOwner(false)
	if got := largest("b"); got < 8<<20 {
		t.Errorf("the WAL had %d bytes: the other tool lost what it copies", got)
	}
	s.SetCheckpointOwner(true)
	if err := s.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.file.walSize(); got > 1<<20 {
		t.Errorf("the WAL has %d bytes after Maintain", got)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
