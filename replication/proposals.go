package replication

import (
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// A batch has at most maxBatch proposals and, above the first, maxBatchBytes of data: a
// write to a slow disk must not look like a disk that fails, nor delay the next batch.
const (
	maxBatch      = 64
	maxBatchBytes = 4 << 20
)

// proposalQueue passes proposals to raft, one batch at a time. While raft has a batch,
// new proposals are collected for the next one. Raft makes one write to the log, one
// message to each follower and one batch for every FSM of what it finds waiting. Without
// the queue it finds little: it stores a proposal faster than FSMs apply it, so the
// entries would wait before the FSMs one by one, each at the price of a commit. A single
// proposal does not wait.
type proposalQueue struct {
	raft  *raft.Raft
	tasks *tasks

	mu      sync.Mutex
	busy    bool // raft has a batch
	waiting []*proposal
}

// proposal is an encoded command for raft.
type proposal struct {
	ctx      context.Context //nolint:containedctx // of the one call of Propose
	data     []byte
	response chan response // has room for one
}

// response is the FSM's response to a command, or why there is none.
type response struct {
	value any
	err   error
}

// enqueue adds p to the next batch. It reports false when the node is stopping.
func (q *proposalQueue) enqueue(p *proposal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.busy {
		if !q.tasks.start(q.runBatches) {
			return false
		}
		q.busy = true
	}
	q.waiting = append(q.waiting, p)
	return true
}

// cancel removes p and reports true, if raft does not have it yet: then it is certainly
// not accepted.
func (q *proposalQueue) cancel(p *proposal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, p)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// next appends the next batch to into. It is empty when nothing waits.
func (q *proposalQueue) next(into []*proposal) []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for ; n < min(len(q.waiting), maxBatch); n++ {
		if size += len(q.waiting[n].data); n > 0 && size > maxBatchBytes {
			break
		}
	}
	if n == 0 {
		q.busy = false
		return nil
	}
	into = append(into, q.waiting[:n]...)
	q.waiting = slices.Delete(q.waiting, 0, n)
	return into
}

// runBatches passes one batch after the other to raft. Raft may end without a response
// to entries that it has not read; only runBatches waits for it then.
func (q *proposalQueue) runBatches() {
	var batch []*proposal
	futures := make([]raft.ApplyFuture, 0, maxBatch)
	for {
		if batch = q.next(batch[:0]); len(batch) == 0 {
			return
		}
		futures = futures[:0]
		for _, p := range batch {
			futures = append(futures, q.raft.Apply(p.data, remaining(p.ctx)))
		}
		for i, f := range futures {
			if err := f.Error(); err != nil {
				batch[i].response <- response{err: err}
			} else {
				batch[i].response <- response{value: f.Response()}
			}
		}
		clear(batch)
		clear(futures)
	}
}
