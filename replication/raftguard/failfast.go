// Guard: a pipeline of entries ends at the first response without success.
//
// Upstream: hashicorp/raft#612. Raft reads no further responses then, but may send
// one more request first, and waits forever for a slot in a pipeline that nothing
// reads. The follower still gets heartbeats, so it starts no election, and gets no
// entries until another node leads, even after it restarts. One failed append, such
// as on a full disk, is enough.
//
// Test: TestRejectionDoesNotEndReplication. Known-bad build: the same test without the
// guard.

package raftguard

import (
	"sync"

	"github.com/hashicorp/raft"
)

// failFastTransport is a transport with failFastPipelines.
type failFastTransport struct{ *requestFilter }

// AppendEntriesPipeline opens a pipeline. Raft closes each that it opens.
func (t failFastTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.requestFilter.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &failFastPipeline{AppendPipeline: inner, responses: make(chan raft.AppendFuture), done: make(chan struct{})}
	p.reject = func(f raft.AppendFuture) error {
		return t.terms.rejectResponse(id, f.Request().Term, f.Response().Term)
	}
	go p.run()
	return p, nil
}

type failFastPipeline struct {
	raft.AppendPipeline
	reject    func(raft.AppendFuture) error // see termGuard
	responses chan raft.AppendFuture
	once      sync.Once
	done      chan struct{}
}

// run passes responses on, up to the last one that raft reads, and closes the
// pipeline after it: later requests fail, also those that are in progress.
func (p *failFastPipeline) run() {
	in := p.AppendPipeline.Consumer()
	for {
		select {
		case f := <-in:
			if p.reject(f) != nil {
				_ = p.AppendPipeline.Close()
				return
			}
			last := !f.Response().Success || f.Response().Term > f.Request().Term
			select {
			case p.responses <- f:
			case <-p.done:
				return
			}
			if last {
				_ = p.AppendPipeline.Close()
				return
			}
		case <-p.done:
			return
		}
	}
}

// Consumer returns the channel from which raft reads responses.
func (p *failFastPipeline) Consumer() <-chan raft.AppendFuture { return p.responses }

// Close ends the pipeline.
func (p *failFastPipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}
