package replication

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// TestVotersAreOdd: which members are promoted and demoted. A cluster grows from one
// voter to three at once: with two, an unreachable one leaves no majority.
func TestVotersAreOdd(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	for _, tc := range []struct {
		name                   string
		most, voters, dead     int // dead of the voters
		waiting, sick, sidecar int // non-voters: healthy, unhealthy, never eligible
		promoted, demoted      int
	}{
		{"alone", 3, 1, 0, 0, 0, 0, 0, 0},
		{"a second server waits", 3, 1, 0, 1, 0, 0, 0, 0},
		{"for a healthy third", 3, 1, 0, 1, 1, 0, 0, 0},
		{"for a third that may vote", 3, 1, 0, 1, 0, 5, 0, 0},
		{"two at once", 3, 1, 0, 2, 0, 3, 2, 0},
		{"no more than three", 3, 1, 0, 4, 0, 0, 2, 0},
		{"full", 3, 3, 0, 2, 0, 0, 0, 0},
		{"the third comes back", 3, 2, 0, 1, 0, 0, 1, 0},
		{"one of three is replaced", 3, 3, 1, 1, 0, 0, 1, 1},
		{"a majority is left alone", 3, 3, 2, 2, 0, 0, 0, 0},
		{"a fourth waits", 5, 3, 0, 1, 0, 0, 0, 0},
		{"to five", 5, 3, 0, 2, 0, 0, 2, 0},
		{"five from one", 5, 1, 0, 4, 0, 0, 4, 0},
		{"four of one", 5, 1, 0, 3, 0, 0, 2, 0},
		{"two are wished", 2, 1, 0, 1, 0, 0, 1, 0},
	} {
		s := &autopilot.State{Servers: map[raft.ServerID]*autopilot.ServerState{}}
		sidecars := map[string]bool{}
		add := func(kind string, count int, state autopilot.RaftState, healthy bool) {
			for i := range count {
				id := raft.ServerID(fmt.Sprintf("%s-%d", kind, i))
				s.Servers[id] = &autopilot.ServerState{
					Server: autopilot.Server{ID: id}, State: state, Health: autopilot.ServerHealth{Healthy: healthy, StableSince: long},
				}
				if state != autopilot.RaftNonVoter {
					s.Voters = append(s.Voters, id)
				}
				sidecars[string(id)] = kind == "sidecar"
			}
		}
		add("leader", 1, autopilot.RaftLeader, true)
		add("voter", tc.voters-1-tc.dead, autopilot.RaftVoter, true)
		add("dead", tc.dead, autopilot.RaftVoter, false)
		add("waiting", tc.waiting, autopilot.RaftNonVoter, true)
		add("sick", tc.sick, autopilot.RaftNonVoter, false)
		add("sidecar", tc.sidecar, autopilot.RaftNonVoter, true)
		p := &autopilotDelegate{o: AutopilotOptions{Voters: tc.most, Stable: time.Second, Eligible: func(id string) bool { return !sidecars[id] }}}
		got := promoter{autopilot.DefaultPromoter(), p}.CalculatePromotionsAndDemotions(p.AutopilotConfig(), s)
		if len(got.Promotions) != tc.promoted || len(got.Demotions) != tc.demoted {
			t.Errorf("%s: promoted %v, demoted %v", tc.name, got.Promotions, got.Demotions)
		}
		if slices.ContainsFunc(got.Promotions, func(id raft.ServerID) bool { return sidecars[string(id)] }) {
			t.Errorf("%s: a sidecar is promoted: %v", tc.name, got.Promotions)
		}
	}
}
