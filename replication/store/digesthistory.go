package store

import (
	"sync"

	"github.com/holdfast-config/holdfast/replication/store/apply"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// historySize is for how many entries the digest of the state is retained.
const historySize = 4096

// digestHistory has the digests of the newest states. Nodes batch differently: it
// has one for each entry, not for each batch.
type digestHistory struct {
	mu   sync.Mutex
	ring [historySize]apply.StateDigest
}

func (h *digestHistory) add(states []apply.StateDigest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range states {
		h.ring[s.Index%historySize] = s
	}
}

func (h *digestHistory) at(index uint64) (tables.Sum, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.ring[index%historySize]
	return s.Digest, s.Index == index && index > 0
}
