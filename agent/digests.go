package agent

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// The members compare their states through the log: the leader tells what its
// state was at an index, and each member looks whether its own was the same. One
// that differs asks the others before it does anything: the leader may be the one
// that is wrong. Who has most voters against it gives its data up and is fed anew.

// digestReport is what a member answers of its state at an index.
type digestReport struct {
	Digest string `json:"digest"`
	Known  bool   `json:"known"`
}

// compareOften proposes the leader's digest, and looks whether most voters had
// another one.
func (ss *session) compareOften(ctx context.Context) {
	if ss.s.o.DigestEvery <= 0 {
		return
	}
	tick := time.NewTicker(ss.s.o.DigestEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if ss.s.cluster.alone() {
			continue
		}
		index, digest := ss.store.Position()
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := ss.member.Propose(cctx, &command.Digest{At: conf.FormatTime(time.Now()), Index: index, Digest: digest})
		cancel()
		if err != nil {
			ss.s.log.Debug("the states were not compared", "err", err)
			continue
		}
		ss.doubt(index)
	}
}

// compare is called by the log's goroutine for each digest in the log.
func (ss *session) compare(d *command.Digest) {
	if own, known := ss.store.DigestAt(d.Index); known && own != d.Digest {
		ss.doubt(d.Index)
	}
}

// doubt has judge look at an index. One that is not looked at yet is replaced.
func (ss *session) doubt(index uint64) {
	select {
	case <-ss.differ:
	default:
	}
	select {
	case ss.differ <- index:
	default:
	}
}

// judge ends the session when most voters had another state than this member.
func (ss *session) judge(ctx context.Context) {
	for {
		var index uint64
		select {
		case index = <-ss.differ:
		case <-ctx.Done():
			return
		}
		own, known := ss.store.DigestAt(index)
		if !known {
			continue
		}
		votes := ss.digests(ctx, index)
		differ := 0
		for _, d := range votes.others {
			if d != own {
				differ++
			}
		}
		switch {
		case differ == 0:
		case outvoted(own, votes.others, votes.voters):
			ss.fail(&mustRejoin{conf.Errorf(conf.CodeCorrupt, "the state of this member at index %d differs from that of most voters", index)})
			return
		default:
			ss.s.log.Error("the states of members differ, and this one is not outvoted: whoever is gives its data up", "index", index, "own", own, "others", votes.others)
		}
	}
}

type digestVotes struct {
	others map[string]string // by voter; this member is not among them
	voters int               // all of them, this member too if it votes
}

// digests asks the other voters for their state at an index.
func (ss *session) digests(ctx context.Context, index uint64) digestVotes {
	v := digestVotes{others: map[string]string{}}
	servers, _, err := ss.member.Servers()
	if err != nil {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range servers {
		if !s.Voter {
			continue
		}
		v.voters++
		if s.ID == ss.s.cluster.self() {
			continue
		}
		wg.Go(func() {
			var d digestReport
			err := ss.s.cluster.call(ctx, s.ID, "/digest?index="+strconv.FormatUint(index, 10), nil, &d)
			if err != nil || !d.Known {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			v.others[s.ID] = d.Digest
		})
	}
	wg.Wait()
	return v
}

// outvoted says whether more than half of the voters have one and the same other
// digest.
func outvoted(own string, others map[string]string, voters int) bool {
	count := map[string]int{}
	for _, d := range others {
		if d != own {
			count[d]++
		}
	}
	for _, n := range count {
		if 2*n > voters {
			return true
		}
	}
	return false
}
