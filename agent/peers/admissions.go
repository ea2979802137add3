package peers

import (
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// admissions are the certificates that the cluster port accepts, as the rows of the
// members and their keys have it. A member is a node id with a role and the keys of its
// present admission: a certificate of an earlier one does not fit. It is immutable.
//
// A row without a key was written for a member of a build that did not record any: it is
// admitted by its id and role until the leader has recorded its key. A node id without a
// row is that of a member whose admission has not reached this agent.
type admissions struct {
	removed map[string]bool     // node ids
	roles   map[string]string   // of the present members
	keys    map[string][]string // of the present members
	revoked map[nodeKey]bool
}

type nodeKey struct{ node, key string }

func newAdmissions(members []conf.Member, keys []conf.MemberKey) admissions {
	a := admissions{removed: map[string]bool{}, roles: map[string]string{}, keys: map[string][]string{}, revoked: map[nodeKey]bool{}}
	for _, m := range members {
		if m.RemovedAt != "" {
			a.removed[m.NodeID] = true
		} else {
			a.roles[m.NodeID] = m.Role
		}
	}
	for _, k := range keys {
		if k.RevokedAt != "" {
			a.revoked[nodeKey{k.NodeID, k.KeyHash}] = true
		} else {
			a.keys[k.NodeID] = append(a.keys[k.NodeID], k.KeyHash)
		}
	}
	return a
}

// check returns why a certificate is not that of a present member.
func (a admissions) check(p pki.Peer) error {
	role, keys := a.roles[p.NodeID], a.keys[p.NodeID]
	hint := "if it is that agent: join with an empty data directory and a new token"
	switch {
	case a.removed[p.NodeID], a.revoked[nodeKey{p.NodeID, p.Key}]:
		return conf.Errorf(conf.CodeDenied, "node %s was removed from the cluster", p.NodeID).
			WithHint("to come back, join with an empty data directory and a new token")
	case role != "" && role != string(p.Role):
		return conf.Errorf(conf.CodeDenied, "node %s is a %s, and this is the certificate of a %s", p.NodeID, role, p.Role).WithHint("%s", hint)
	case len(keys) > 0 && !slices.Contains(keys, p.Key):
		return conf.Errorf(conf.CodeDenied, "the certificate is not of the present admission of node %s", p.NodeID).WithHint("%s", hint)
	}
	return nil
}

// keepKeys is keys with those of was that a store which was rebuilt does not know: the
// revoked ones until their certificates have expired, the others until their member has
// a row.
func keepKeys(keys, was []conf.MemberKey, members []conf.Member, now string) []conf.MemberKey {
	out := slices.Clone(keys)
	for _, k := range was {
		known := slices.ContainsFunc(keys, func(n conf.MemberKey) bool { return n.NodeID == k.NodeID && n.KeyHash == k.KeyHash })
		row := slices.ContainsFunc(members, func(m conf.Member) bool { return m.NodeID == k.NodeID })
		if !known && (k.RevokedAt == "" && !row || k.RevokedAt != "" && k.EndsAt > now) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b conf.MemberKey) int { return strings.Compare(a.NodeID+" "+a.KeyHash, b.NodeID+" "+b.KeyHash) })
	return out
}

// knows reports whether the key of a certificate is in the rows: accepted or revoked.
func (a admissions) knows(p pki.Peer) bool {
	return a.revoked[nodeKey{p.NodeID, p.Key}] || slices.Contains(a.keys[p.NodeID], p.Key)
}

// Allowed is transport.Options.Allowed: only the certificate of a present admission is
// accepted. A key that is not in the rows may be of an admission that this agent has not
// heard of: the other servers are asked.
func (l *MemberList) Allowed(p pki.Peer) error {
	l.mu.Lock()
	err := l.admitted.check(p)
	unknown := err != nil && !l.admitted.knows(p)
	vouched := unknown && l.vouched[p.NodeID] == admission{p.Key, string(p.Role)}
	l.mu.Unlock()
	switch {
	case vouched:
		return nil
	case unknown && l.onUnknown != nil:
		l.onUnknown(p)
	}
	return err
}

// admission is what the rows have of an admitted certificate.
type admission struct{ Key, Role string }

// vouch notes that another server has the admission of a certificate in its rows. The
// rows of this agent decide again as soon as they have its key.
func (l *MemberList) vouch(p pki.Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.vouched == nil {
		l.vouched = map[string]admission{}
	}
	l.vouched[p.NodeID] = admission{p.Key, string(p.Role)}
}

// isAdmitted reports whether the rows have an admission.
func (l *MemberList) isAdmitted(node string, a admission) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := pki.Peer{NodeID: node, Key: a.Key, Role: pki.Role(a.Role)}
	return l.admitted.check(p) == nil && l.admitted.knows(p) && l.admitted.roles[node] == a.Role
}

// Saw notes who was found at the registered address of a member.
func (l *MemberList) Saw(p pki.Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[p.NodeID] = p.Key
}

// forgetSeen forgets what was found before a member was removed or admitted again. The
// caller holds mu, and has not set the new rows yet.
func (l *MemberList) forgetSeen(rows []conf.Member) {
	for node := range l.seen {
		same := func(m conf.Member) bool { return m.NodeID == node && m.RemovedAt == "" }
		i, j := slices.IndexFunc(l.saved.Members, same), slices.IndexFunc(rows, same)
		if j < 0 || i >= 0 && l.saved.Members[i].JoinedAt != "" && l.saved.Members[i].JoinedAt != rows[j].JoinedAt {
			delete(l.seen, node)
		}
	}
}

// Unrecorded returns the keys that were found at the addresses of the members that have
// none in their rows.
func (l *MemberList) Unrecorded() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]string{}
	for node, key := range l.seen {
		if l.admitted.roles[node] != "" && len(l.admitted.keys[node]) == 0 {
			out[node] = key
		}
	}
	return out
}
