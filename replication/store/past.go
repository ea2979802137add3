package store

import "sync"

// keepStates is for how many entries the digest of the state is remembered.
const keepStates = 4096

// stateAt is the digest of the state when the entry with that index was applied.
type stateAt struct {
	index  uint64
	digest sum
}

// past remembers the digests of the newest states. Nodes batch differently: it
// has one for each entry, not for each batch.
type past struct {
	mu   sync.Mutex
	ring [keepStates]stateAt
}

func (p *past) keep(states []stateAt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range states {
		p.ring[s.index%keepStates] = s
	}
}

func (p *past) at(index uint64) (sum, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.ring[index%keepStates]
	return s.digest, s.index == index && index > 0
}

// DigestAt is the digest of the state after the entry with that index, as long as
// it is remembered: for some thousand entries, and not over a restart.
func (s *Store) DigestAt(index uint64) (digest string, ok bool) {
	if st := s.state.Load(); st.index == index && index > 0 {
		return st.digest.String(), true
	}
	d, ok := s.past.at(index)
	return d.String(), ok
}

// Position is the applied index and the digest of the state at it.
func (s *Store) Position() (index uint64, digest string) {
	st := s.state.Load()
	return st.index, st.digest.String()
}
