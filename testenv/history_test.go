package testenv

import (
	"fmt"
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestHistoryWithLostAnswers: what others saw settles the outcomes that clients do
// not know, and a history that no single place has stays one.
func TestHistoryWithLostAnswers(t *testing.T) {
	t.Parallel()
	// Clients patch, put and delete at once and hear nothing; every third patch is
	// carried out. Beside them others are answered.
	lost := func(wrong, ended bool) *History {
		h := NewHistory()
		version := uint64(1)
		for i := range 300 {
			value := fmt.Sprintf("lost-%d", i)
			op := []string{opPatch, opPut, opDelete}[i%3]
			h.add(100+i, input{op: op, service: "s", value: value, expect: version}, h.now(), output{unknown: true})
			if i%9 == 0 {
				version++
				h.observe("a watcher", "s", version, value, true)
			}
			version++
			value = fmt.Sprintf("told-%d", i)
			h.add(1, input{op: opPatch, service: "s", value: value, expect: version}, h.now(), output{ok: true, version: version})
			got := value
			if wrong && i == 200 {
				got = "lost-0"
				delete(h.written, fmt.Sprintf("s/%d", version))
			}
			h.add(2, input{op: opGet, service: "s"}, h.now(), output{ok: true, version: version, value: got})
		}
		if ended { // by one of the deletes, which nobody was told of
			h.add(3, input{op: opDelete, service: "s", value: "end", expect: version}, h.now(), output{unknown: true})
			h.add(2, input{op: opGet, service: "s"}, h.now(), output{})
		}
		return h
	}
	for _, wrong := range []bool{false, true} {
		h := lost(wrong, false)
		if len(h.problems) > 0 {
			t.Fatal(h.problems)
		}
		ops := h.settled()
		if want := 600 + 34; len(ops) != want {
			t.Errorf("%d of %d operations are left, not %d", len(ops), len(h.ops), want)
		}
		if got := porcupine.CheckOperationsTimeout(registers, ops, Patience); (got == porcupine.Ok) == wrong || got == porcupine.Unknown {
			t.Errorf("a read of another one's value: %v; the history is %v", wrong, got)
		}
	}
	if got := porcupine.CheckOperationsTimeout(registers, lost(false, true).settled(), Patience); got != porcupine.Ok {
		t.Errorf("a service that ended by a delete whose answer was lost: the history is %v", got)
	}
}

// TestHistoryWithAStaleWrite: a write that was made on another version than it names is
// seen at once, however many outcomes are unknown beside it.
func TestHistoryWithAStaleWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   input
		out  output
		want int
	}{
		"a put on its version":        {input{op: opPut, value: "a", expect: 7}, output{ok: true, version: 8}, 0},
		"a stale put":                 {input{op: opPut, value: "a", expect: 5}, output{ok: true, version: 8}, 1},
		"a stale delete":              {input{op: opDelete, expect: 5}, output{ok: true, version: 8}, 1},
		"a conflict":                  {input{op: opPut, value: "a", expect: 5}, output{version: 7}, 0},
		"a conflict with itself":      {input{op: opPut, value: "a", expect: 7}, output{version: 7}, 1},
		"a lost answer":               {input{op: opPut, value: "a", expect: 5}, output{unknown: true}, 0},
		"a patch names none":          {input{op: opPatch, value: "a"}, output{ok: true, version: 8}, 0},
		"nothing was there to delete": {input{op: opDelete, expect: 5}, output{}, 0},
	} {
		h := NewHistory()
		for i := range 1000 {
			h.add(100+i, input{op: opPatch, service: "s", value: fmt.Sprint(i)}, h.now(), output{unknown: true})
		}
		c.in.service = "s"
		h.add(1, c.in, h.now(), c.out)
		if got := h.Problems(); got != c.want {
			t.Errorf("%s: %d problems, want %d: %q", name, got, c.want, h.problems)
		}
	}
}
