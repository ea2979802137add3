package query

import (
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// TestTableCache: a table is read once for each state of the store, a failure is not
// kept, and a caller may change what it got.
func TestTableCache(t *testing.T) {
	st := &tables.State{Index: 1}
	var m tableCache[int]
	reads := 0
	get := func(err error) []int {
		t.Helper()
		rows, got := m.get(st, func() ([]int, error) { reads++; return []int{reads}, err })
		if got != err { //nolint:errorlint // the very one
			t.Fatalf("error %v, want %v", got, err)
		}
		return rows
	}
	if rows := get(conf.Errorf(conf.CodeInternal, "no")); rows != nil {
		t.Fatalf("a failure gave %v", rows)
	}
	first := get(nil)
	if first[0] != 2 {
		t.Fatalf("after a failure: %v, want a second read", first)
	}
	first[0] = 99
	if again := get(nil); again[0] != 2 || reads != 2 {
		t.Fatalf("at the same state: %v after %d reads", again, reads)
	}
	st = &tables.State{Index: 2}
	if rows := get(nil); rows[0] != 3 {
		t.Fatalf("after an entry: %v", rows)
	}
	st = &tables.State{Index: 2, Digest: tables.Sum{1}}
	if rows := get(nil); rows[0] != 4 {
		t.Fatalf("after another state was put in place: %v", rows)
	}
}
