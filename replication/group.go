package replication

import (
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// A group has at most groupSize proposals and, above the first, groupBytes of
// data: writing one to a slow disk must not look like a disk that fails, nor
// keep those behind it waiting for long.
const (
	groupSize  = 64
	groupBytes = 4 << 20
)

// groups hands proposals to raft, one group at a time: while one is with raft,
// those that come are collected for the next. Raft makes of what it finds waiting
// one write to the log, one message to each follower and one batch for every
// machine. Left to itself it finds little: it stores a proposal in less time than
// the machines need to apply it, so the entries would queue before the machines
// one by one, each with the price of a commit. A lone proposal waits for nothing.
type groups struct {
	mu      sync.Mutex
	busy    bool // a group is with raft
	waiting []*proposal
}

// proposal is a command on its way to raft.
type proposal struct {
	ctx    context.Context //nolint:containedctx // of the one call of Propose
	data   []byte
	answer chan answer // has room for one
}

// answer is the machine's response to a command, or why there is none.
type answer struct {
	response any
	err      error
}

// enter gives p to the next group; false: the Member is stopping.
func (m *Member) enter(p *proposal) bool {
	g := &m.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.busy {
		if !m.spawn(m.carry) {
			return false
		}
		g.busy = true
	}
	g.waiting = append(g.waiting, p)
	return true
}

// leave takes p back, if it has not been given to raft yet: then it was surely
// not taken.
func (m *Member) leave(p *proposal) bool {
	g := &m.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, p)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// next is the next group. When nothing waits it is empty, and nothing is with raft.
func (g *groups) next(into []*proposal) []*proposal {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, size := 0, 0
	for ; n < min(len(g.waiting), groupSize); n++ {
		if size += len(g.waiting[n].data); n > 0 && size > groupBytes {
			break
		}
	}
	if n == 0 {
		g.busy = false
		return nil
	}
	into = append(into, g.waiting[:n]...)
	g.waiting = slices.Delete(g.waiting, 0, n)
	return into
}

// carry takes one group after the other through raft. Raft may end without an
// answer to what it has not looked at; only carry waits for it then.
func (m *Member) carry() {
	var group []*proposal
	futures := make([]raft.ApplyFuture, 0, groupSize)
	for {
		if group = m.groups.next(group[:0]); len(group) == 0 {
			return
		}
		futures = futures[:0]
		for _, p := range group {
			futures = append(futures, m.raft.Apply(p.data, remaining(p.ctx)))
		}
		for i, f := range futures {
			if err := f.Error(); err != nil {
				group[i].answer <- answer{err: err}
			} else {
				group[i].answer <- answer{response: f.Response()}
			}
		}
		clear(group)
		clear(futures)
	}
}
