package replica

import (
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// memoryReleaser returns memory to the system when the replica is idle: what loading
// the schemas, or many changes, took would otherwise stay with an agent that waits for
// the rest of the day, beside a service that may need it.
type memoryReleaser struct {
	free func()

	index     uint64 // at the last tick
	freed     uint64 // at the last release
	idleTicks int    // since the index changed
	released  bool   // once, at least
}

const (
	firstAfter   = 3   // ticks, a second each, without a change after the start
	releaseAfter = 10  // ticks without a change later on
	releaseWorth = 200 // changes that are worth a garbage collection
)

// newMemoryReleaser gives back what is not used, and compiled schemas: there has been no
// change for a moment that needed them.
func newMemoryReleaser(schemas *schema.Cache) *memoryReleaser {
	return &memoryReleaser{free: func() {
		schemas.Drop()
		process.ReleaseMemory()
	}}
}

// tick is called each second with the applied index.
func (r *memoryReleaser) tick(index, _ uint64) {
	if index != r.index {
		r.index, r.idleTicks = index, 0
		return
	}
	after := releaseAfter
	if !r.released {
		after = firstAfter
	}
	if r.idleTicks++; r.idleTicks != after || (r.released && index-r.freed < releaseWorth) {
		return
	}
	r.released, r.freed = true, index
	r.free()
}
