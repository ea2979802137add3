package raftguard

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// keeping is a transport that records the pipelines that raft opens, so that the test
// can close one in which raft hangs.
type keeping struct {
	*requestFilter
	mu   sync.Mutex
	open []raft.AppendPipeline
}

func (k *keeping) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := k.requestFilter.AppendEntriesPipeline(id, to)
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.open = append(k.open, p)
	}
	return p, err
}

// rejection makes a member reject entries for a moment, among many, and reports
// whether it lacks some of them a minute later.
func rejection(t *testing.T, guard bool) (stuck bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var kept *keeping
		s := startSending(t, func(p failFastTransport) raft.Transport {
			if guard {
				return p
			}
			kept = &keeping{requestFilter: p.requestFilter}
			return kept
		})
		s.change(2*time.Millisecond, false)
		apply := func(n int) {
			for range n {
				s.Apply([]byte("x"), 0)
				<-time.After(100 * time.Microsecond)
			}
		}
		apply(300)
		s.change(2*time.Millisecond, true)
		for s.rejected() < 2 {
			apply(1)
		}
		s.change(0, false)
		apply(300)
		stuck = s.caughtUp(time.Minute) >= time.Minute
		if kept != nil {
			for _, p := range kept.open {
				_ = p.Close()
			}
		}
		s.end()
	})
	return stuck
}

// TestRejectionDoesNotEndReplication: a member that could not append gets what it
// missed, and all later entries. Without the guard raft sometimes hangs in a pipeline
// whose responses it no longer reads.
func TestRejectionDoesNotEndReplication(t *testing.T) {
	lost := 0
	const tries = 20
	for range tries {
		if rejection(t, true) {
			t.Fatal("a member that rejected entries once has received none for a minute")
		}
		if rejection(t, false) {
			lost++
		}
	}
	if lost == 0 {
		t.Fatal("without the guard nothing happened: the test proves nothing")
	}
	t.Logf("without the guard %d of %d were left behind", lost, tries)
}
