package replication

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipelines is a transport whose pipelines of entries end at the first answer that
// is not a success.
//
// Raft reads no further answers then, but may send one more request before it sees
// that, and waits for ever for its turn in a pipeline that nobody empties
// (hashicorp/raft#612). The member at the other end still hears heartbeats, so it
// calls for no election, and gets no entry any more until another one leads, not
// even when it is started anew. That it could not append once, because its disk was
// full, is enough.
type pipelines struct{ *orderly }

// AppendEntriesPipeline opens one. Raft closes each that it opens.
func (p pipelines) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := p.orderly.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	e := &endingPipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), done: make(chan struct{})}
	go e.run()
	return e, nil
}

type endingPipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	once    sync.Once
	done    chan struct{}
}

// run hands answers on, up to the last one that raft reads. What is sent after
// that fails, also when it is under way already.
func (e *endingPipeline) run() {
	in := e.AppendPipeline.Consumer()
	for {
		select {
		case f := <-in:
			last := !f.Response().Success || f.Response().Term > f.Request().Term
			select {
			case e.answers <- f:
			case <-e.done:
				return
			}
			if last {
				_ = e.AppendPipeline.Close()
				return
			}
		case <-e.done:
			return
		}
	}
}

// Consumer is where raft takes answers from.
func (e *endingPipeline) Consumer() <-chan raft.AppendFuture { return e.answers }

// Close ends the pipeline.
func (e *endingPipeline) Close() error {
	e.once.Do(func() { close(e.done) })
	return e.AppendPipeline.Close()
}
