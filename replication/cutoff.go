package replication

import "github.com/holdfast-config/holdfast/replication/conf"

// CutOff lists the members that this node, as the leader, sends nothing to, because they
// do not vote and responded with a higher term. See raftguard. It is nil on other nodes.
func CutOff(n *Node) (out []conf.CutOff) {
	if !n.IsLeader() {
		return nil
	}
	for _, c := range n.trans.CutOff() {
		out = append(out, conf.CutOff{NodeID: c.ID, Term: c.Term, Since: conf.FormatTime(c.Since)})
	}
	return out
}

// RefusedTerms returns how many higher terms of members that do not vote this node did not
// take over since it was opened.
func RefusedTerms(n *Node) uint64 { return n.trans.RefusedTerms() }

// checkNotCutOff returns an error for a member that is cut off: as a voter it would depose
// the leader.
func checkNotCutOff(n *Node, id string) error {
	for _, c := range n.trans.CutOff() {
		if c.ID == id {
			return conf.Errorf(conf.CodeConflict, "member %s is cut off: it responds with the term %d, above that of the leader", id, c.Term).
				WithHint("wait until it has come back by itself, or remove it: holdfast cluster remove %s", id)
		}
	}
	return nil
}
