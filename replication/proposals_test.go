package replication

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// gatedBolt blocks commands while mu is held, and counts writes.
type gatedBolt struct {
	raftguard.LogFile
	mu     sync.Mutex
	writes int
}

func (g *gatedBolt) StoreLogs(logs []*raft.Log) error {
	if logs[0].Type == raft.LogCommand {
		g.mu.Lock()
		g.writes++
		g.mu.Unlock()
	}
	return g.LogFile.StoreLogs(logs)
}

// TestProposalsWaitForEachOther has raft busy with one proposal. Later ones are stored
// together. One that is canceled before was certainly not accepted; the outcome of the
// one that raft has is unknown.
func TestProposalsWaitForEachOther(t *testing.T) {
	gate := &gatedBolt{}
	n := fresh(t, t.TempDir(), func(o *Options) {
		o.wrapLog = func(b raftguard.LogFile) raftguard.LogFile { gate.LogFile = b; return gate }
		o.SlowDisk, o.HungDisk = time.Hour, time.Hour // a blocked write is like a disk that hangs
	})
	waiting := func(want int) func() bool {
		return func() bool {
			n.proposals.mu.Lock()
			defer n.proposals.mu.Unlock()
			return n.proposals.busy && len(n.proposals.waiting) == want
		}
	}
	type outcome struct {
		r   command.Result
		err error
	}
	propose := func(ctx context.Context, service string) <-chan outcome {
		ch := make(chan outcome, 1)
		go func() {
			r, err := n.Propose(ctx, edit(service, 1))
			ch <- outcome{r, err}
		}()
		return ch
	}

	gate.mu.Lock()
	gate.writes = 0
	shut := true
	defer func() {
		if shut {
			gate.mu.Unlock()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	given := propose(ctx, "given")
	eventually(t, "raft to have the first proposal", waiting(0))
	const others = 40
	var out []<-chan outcome
	for i := range others {
		out = append(out, propose(t.Context(), fmt.Sprintf("other-%d", i)))
	}
	late := propose(ctx, "late")
	eventually(t, "the others to wait", waiting(others+1))
	cancel()
	wantCode(t, (<-given).err, conf.CodeOutcomeUnknown)
	wantCode(t, (<-late).err, conf.CodeNoQuorum)
	gate.mu.Unlock()
	shut = false

	for i, ch := range out {
		if o := <-ch; o.err != nil || o.r.Err != nil {
			t.Fatalf("proposal %d: %+v, %v", i, o.r, o.err)
		}
	}
	wantVersion(t, n, "given", 1)
	wantVersion(t, n, "late", 0)
	gate.mu.Lock()
	defer gate.mu.Unlock()
	if gate.writes > others/2 {
		t.Errorf("%d proposals were stored in %d writes", others+1, gate.writes)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	const half = maxBatchBytes / 2
	for name, tc := range map[string]struct{ sizes, want []int }{
		"nothing":     {nil, []int{0}},
		"many":        {slices.Repeat([]int{1}, maxBatch+1), []int{maxBatch, 1, 0}},
		"large":       {[]int{half, half, 1, half}, []int{2, 2, 0}},
		"larger ones": {[]int{maxBatchBytes + 1, maxBatchBytes + 1, 1}, []int{1, 1, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, maxBatchBytes+1)
			q := &proposalQueue{busy: true}
			for _, n := range tc.sizes {
				q.waiting = append(q.waiting, &proposal{data: data[:n]})
			}
			for i, want := range tc.want {
				if got := q.next(nil); len(got) != want {
					t.Fatalf("batch %d has %d proposals, want %d", i, len(got), want)
				}
			}
			if q.busy {
				t.Fatal("nothing waits, and it is busy")
			}
		})
	}
}
