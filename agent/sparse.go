package agent

import (
	"sync"
	"time"
)

const (
	sparseEvery = time.Minute
	sparseMost  = 1024
)

// sparse keeps what others can cause at will from filling the log: each of it is
// told of once a minute. Safe for concurrent use; the zero value is ready.
type sparse struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// due says whether what is to be told of now, and takes it for told.
func (s *sparse) due(what string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.told[what]; ok && now.Sub(at) < sparseEvery {
		return false
	}
	if s.told == nil {
		s.told = map[string]time.Time{}
	}
	if len(s.told) >= sparseMost {
		for k, at := range s.told {
			if now.Sub(at) >= sparseEvery {
				delete(s.told, k)
			}
		}
	}
	if len(s.told) >= sparseMost {
		return false // very many at once: one of them was told of
	}
	s.told[what] = now
	return true
}
