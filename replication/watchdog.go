package replication

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// pace is how long the log's file takes to append.
type pace struct {
	since atomic.Int64 // unix nanoseconds: when the append that runs began; 0 = none runs
	worst atomic.Int64 // nanoseconds: the longest append that was not looked at yet
}

func (p *pace) begin() (done func()) {
	start := time.Now()
	p.since.Store(start.UnixNano())
	return func() {
		p.since.Store(0)
		took := time.Since(start).Nanoseconds()
		for was := p.worst.Load(); took > was && !p.worst.CompareAndSwap(was, took); {
			was = p.worst.Load()
		}
	}
}

// checkDisk keeps a member whose disk is slow or hangs from leading. Raft itself
// would let it lead for ever, because heartbeats need no disk (hashicorp/raft#503).
// It is called by watch.
func (m *Member) checkDisk() {
	worst := time.Duration(m.pace.worst.Swap(0))
	if since := m.pace.since.Load(); since != 0 && m.fault.Err() == nil {
		if took := time.Since(time.Unix(0, since)); took > m.hung {
			// Raft's main loop hangs in the append and can hand nothing over. With its
			// connections gone the others elect a leader that works.
			m.fault.trip(conf.Errorf(conf.CodeInternal, "the disk of the log hangs: an append takes more than %s", m.hung).
				WithHint("check the disk; this agent goes on when it answers"))
			m.log.Error("the disk of the log hangs: this member leaves the others to themselves", "for", took)
			_ = m.trans.Close()
			return
		}
	}
	if worst <= m.slow || m.raft.State() != raft.Leader || !m.hasOtherVoter() {
		return
	}
	m.log.Warn("the disk of the log is slow: handing the leadership over", "append_took", worst)
	m.spawn(func() {
		if err := m.raft.LeadershipTransfer().Error(); err != nil {
			m.log.Warn("the leadership was not handed over", "error", err)
		}
	})
}

func (m *Member) hasOtherVoter() bool {
	for _, s := range m.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != m.id {
			return true
		}
	}
	return false
}
