package replica

import (
	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// CutOff lists the members that this agent, as the leader, sends nothing to, because they
// do not vote and responded with a higher term; nil on other agents.
func CutOff(r *Replica) []conf.CutOff { return replication.CutOff(r.node) }

// RefusedTerms returns how many higher terms of members that do not vote this agent did not
// take over since its replica was opened.
func RefusedTerms(r *Replica) uint64 { return replication.RefusedTerms(r.node) }
