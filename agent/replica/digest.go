package replica

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const routeDigest = "/digest"

// digestCheck compares the states of the voters through the log: the leader writes its
// state digest at an index, and each member compares its own. One that differs asks the
// other voters before it does anything: the leader may be the one that is wrong. A
// member that a majority contradicts discards its data and rejoins.
type digestCheck struct {
	r          *Replica
	mismatches chan uint64 // the index of a digest that differs, capacity 1
}

// digestReport is the reply of a member about its state at an index.
type digestReport struct {
	Digest string `json:"digest"`
	Known  bool   `json:"known"`
}

// serveDigest replies with the digest at the index of the query.
func (s *Supervisor) serveDigest(req *http.Request) (any, error) {
	index, err := strconv.ParseUint(req.URL.Query().Get("index"), 10, 64)
	if err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "which index?")
	}
	var d digestReport
	if r := s.current.Load(); r != nil {
		d.Digest, d.Known = r.store.DigestAt(index)
	}
	return d, nil
}

// run is a leader job: it proposes the leader's digest, and checks whether most voters
// have another one.
func (d *digestCheck) run(ctx context.Context) {
	every := d.r.sup.o.Options.DigestEvery
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if d.r.sup.o.Cluster.IsSingleNode() {
			continue
		}
		index, digest := d.r.store.Position()
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := d.r.node.Propose(cctx, &command.Digest{At: conf.FormatTime(time.Now()), Index: index, Digest: digest})
		cancel()
		if err != nil {
			d.r.sup.log.Debug("the states were not compared", "err", err)
			continue
		}
		d.report(index)
	}
}

// onDigest is called by Raft's goroutine for each digest in the log.
func (d *digestCheck) onDigest(c *command.Digest) {
	switch own, ok := d.r.store.DigestAt(c.Index); {
	case !ok:
	case own != c.Digest:
		d.report(c.Index)
	default:
		d.r.sup.alarms.states.Clear("", "index", c.Index)
	}
}

// report makes resolveMismatches check an index. One that is not checked yet is replaced.
func (d *digestCheck) report(index uint64) {
	select {
	case <-d.mismatches:
	default:
	}
	select {
	case d.mismatches <- index:
	default:
	}
}

// resolveMismatches ends the replica when a majority of the voters had another state.
func (d *digestCheck) resolveMismatches(ctx context.Context) {
	for {
		var index uint64
		select {
		case index = <-d.mismatches:
		case <-ctx.Done():
			return
		}
		own, ok := d.r.store.DigestAt(index)
		if !ok {
			continue
		}
		others, voters := d.collect(ctx, index)
		differ := 0
		for _, digest := range others {
			if digest != own {
				differ++
			}
		}
		switch {
		case differ == 0 && len(others) > 0:
			d.r.sup.alarms.states.Clear("", "index", index)
		case differ == 0:
		case majorityDiffers(own, others, voters):
			d.r.fail(&rejoinError{conf.Errorf(conf.CodeCorrupt, "the state of this member at index %d differs from that of most voters", index)})
			return
		default:
			d.r.sup.alarms.states.Raise(alarm.StatesDiffer, "", fmt.Errorf("at the index %d the state of this member is %s, of others %v", index, own, others))
		}
	}
}

// collect asks the other voters for their state at an index. others is by voter; voters
// counts all of them, this member too if it votes.
func (d *digestCheck) collect(ctx context.Context, index uint64) (others map[string]string, voters int) {
	others = map[string]string{}
	servers, _, err := d.r.node.Servers()
	if err != nil {
		return others, 0
	}
	ctx, cancel := context.WithTimeout(ctx, peers.StatusTimeout)
	defer cancel()
	c := d.r.sup.o.Cluster
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range servers {
		if !s.Voter {
			continue
		}
		voters++
		if s.ID == c.Self() {
			continue
		}
		wg.Go(func() {
			var reply digestReport
			err := c.Call(ctx, s.ID, routeDigest+"?index="+strconv.FormatUint(index, 10), nil, &reply)
			if err != nil || !reply.Known {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			others[s.ID] = reply.Digest
		})
	}
	wg.Wait()
	return others, voters
}

// majorityDiffers reports whether more than half of the voters have one and the same
// other digest.
func majorityDiffers(own string, others map[string]string, voters int) bool {
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
