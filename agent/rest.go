package agent

import "runtime/debug"

// rest gives memory back to the system when the work is done: what loading the
// schemas, or many changes, took would else stay with an agent that waits for the
// rest of the day, beside a service that may need it.
type rest struct {
	free func()

	index uint64 // as of the last look
	freed uint64 // as of the last time that memory was given back
	calm  int    // looks since the index changed
	begun bool   // memory was given back once
}

const (
	restAfter = 10  // looks, a second each, without a change
	restWorth = 200 // changes that are worth a collection of garbage
)

func newRest() *rest { return &rest{free: debug.FreeOSMemory} }

// look is called each second with the index that is applied.
func (r *rest) look(index, _ uint64) {
	if index != r.index {
		r.index, r.calm = index, 0
		return
	}
	if r.calm++; r.calm != restAfter || (r.begun && index-r.freed < restWorth) {
		return
	}
	r.begun, r.freed = true, index
	r.free()
}
