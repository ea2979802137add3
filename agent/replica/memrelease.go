package replica

import (
	"runtime/metrics"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// memoryReleaser returns memory to the system when the replica is idle: what loading
// the schemas, or many changes, took would otherwise stay with an agent that waits for
// the rest of the day, beside a service that may need it.
type memoryReleaser struct {
	free  func()        // forgets what can be made again, too
	give  func()        // gives back what is unused
	waste func() uint64 // bytes that are unused, and not given back

	index     uint64 // at the last tick
	freed     uint64 // at the last release
	idleTicks int    // since the index changed
	released  bool   // once, at least
}

const (
	firstAfter   = 3        // ticks, a second each, without a change after the start
	releaseAfter = 10       // ticks without a change later on
	releaseWorth = 200      // changes that are worth a garbage collection
	wasteEvery   = 30       // ticks without a change between two looks at what is unused:
	wasteWorth   = 32 << 20 // the search index follows changes later, and reads make garbage
)

// newMemoryReleaser gives back what is not used, and compiled schemas: there has been no
// change for a moment that needed them.
func newMemoryReleaser(schemas *schema.Cache) *memoryReleaser {
	return &memoryReleaser{give: process.ReleaseMemory, waste: unused, free: func() {
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
	r.idleTicks++
	switch {
	case r.idleTicks == after && (!r.released || index-r.freed >= releaseWorth):
		r.released, r.freed = true, index
		r.free()
	case r.idleTicks%wasteEvery == 0 && r.waste() >= wasteWorth:
		r.give()
	}
}

// unused is what Go has and does not use: garbage since the last collection, and free memory
// that it has not given back.
func unused() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	objects, live, free := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
	return objects - min(objects, live) + free
}
