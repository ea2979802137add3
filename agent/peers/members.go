package peers

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// SavedState is cluster.json: what an agent has to know of its cluster before its
// replica is up, such as whom to ask for the leader.
type SavedState struct {
	ClusterID string           `json:"cluster_id"`
	Joined    bool             `json:"joined"` // it joined by a token, and never starts a cluster of its own
	Members   []conf.Member    `json:"members"`
	Keys      []conf.MemberKey `json:"keys,omitempty"`   // that the members are admitted with, and the revoked ones
	LogOf     string           `json:"log_of,omitempty"` // the node id under which a log was begun: an empty log is damage then
}

// MemberList is who the members of the cluster are, as far as this agent knows. Safe
// for concurrent use.
type MemberList struct {
	path      string
	log       *slog.Logger
	features  *Features
	onUnknown func(p pki.Peer) // called without mu when a key is refused that is in no row; nil: nobody
	onRemoved func()           // called without mu when other certificates are accepted than before; nil: nobody

	mu       sync.Mutex
	self     string
	saved    SavedState
	unknown  bool // cluster.json was lost: whether there are other members is not known
	admitted admissions
	seen     map[string]string    // keys of members, as found at their addresses
	vouched  map[string]admission // that another server has, and this agent not yet
}

// OpenMemberList reads the saved state at path. self is the node id of this agent. A
// file that is not readable is logged, and re-created with the next change.
func OpenMemberList(path, self string, log *slog.Logger) (*MemberList, error) {
	l := &MemberList{path: path, log: log, features: newFeatures(), self: self, seen: map[string]string{}}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := conf.DecodeStrict(data, conf.MaxDocument, &l.saved); err != nil {
			log.Warn("cluster.json is not readable: it is written again", "err", err)
			l.saved = SavedState{}
		}
	}
	l.admitted = newAdmissions(l.saved.Members, l.saved.Keys) // the port opens long before the replica can tell
	return l, nil
}

// write saves the state. The caller holds mu.
func (l *MemberList) write() error { return lkg.WriteJSON(l.path, l.saved, 0o600) }

// Start replaces the saved state and writes it: this agent has begun a cluster, has
// joined one, or is all that is left of one.
func (l *MemberList) Start(s SavedState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = s
	return l.write()
}

// AssumeCluster sets the cluster id of the certificate when the saved state was
// lost. Until a replica tells, the other members are not known then.
func (l *MemberList) AssumeCluster(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.saved.ClusterID == "" {
		l.saved.ClusterID, l.unknown = id, true
	}
}

// ClusterID is that of the saved state, "" for none.
func (l *MemberList) ClusterID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saved.ClusterID
}

// LoadFrom sets the members from a database when cluster.json was lost.
func (l *MemberList) LoadFrom(ctx context.Context, st interface {
	Members(context.Context) ([]conf.Member, error)
	MemberKeys(context.Context) ([]conf.MemberKey, error)
},
) {
	l.mu.Lock()
	unknown := l.unknown
	l.mu.Unlock()
	if !unknown {
		return
	}
	members, err := st.Members(ctx)
	if err != nil || len(members) == 0 {
		return
	}
	if keys, err := st.MemberKeys(ctx); err == nil {
		l.Set(members, keys)
	}
}

// Set takes the members and their keys from a replica that is up. A removed member stays
// removed when the replica does not know of it, and so do keys: a store that was rebuilt
// has no members, and the certificates that were issued are still valid.
func (l *MemberList) Set(members []conf.Member, keys []conf.MemberKey) {
	l.mu.Lock()
	out := slices.Clone(members)
	for _, was := range l.saved.Members {
		if was.RemovedAt != "" && !slices.ContainsFunc(members, func(m conf.Member) bool { return m.NodeID == was.NodeID }) {
			out = append(out, was)
		}
	}
	slices.SortFunc(out, func(a, b conf.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	keys = keepKeys(keys, l.saved.Keys, members, conf.FormatTime(time.Now()))
	l.forgetSeen(out)
	l.features.retain(out)
	changed := !slices.Equal(out, l.saved.Members) || !slices.Equal(keys, l.saved.Keys)
	if changed || l.unknown {
		l.saved.Members, l.saved.Keys, l.unknown = out, keys, false
		l.admitted = newAdmissions(out, keys)
		if err := l.write(); err != nil {
			l.log.Warn("cluster.json was not written", "err", err)
		}
	}
	l.mu.Unlock()
	if changed && l.onRemoved != nil {
		l.onRemoved()
	}
}

// Replace sets the members without writing the file: an offline recovery knows more
// from the database.
func (l *MemberList) Replace(members []conf.Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved.Members = members
}

// Members lists the present members as this agent last knew them.
func (l *MemberList) Members() []conf.Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]conf.Member, 0, len(l.saved.Members))
	for _, m := range l.saved.Members {
		if m.RemovedAt == "" {
			out = append(out, m)
		}
	}
	return out
}

// Find returns the present member of that node id.
func (l *MemberList) Find(node string) (conf.Member, bool) {
	for _, m := range l.Members() {
		if m.NodeID == node {
			return m, true
		}
	}
	return conf.Member{}, false
}

// OtherServers lists the node ids of the servers but this one.
func (l *MemberList) OtherServers() []string {
	self := l.Self()
	var out []string
	for _, m := range l.Members() {
		if m.Role == conf.MemberServer && m.NodeID != self {
			out = append(out, m.NodeID)
		}
	}
	return out
}

// IsSingleNode reports whether this agent is the whole cluster, as far as it knows:
// only then may it start a log from its database alone.
func (l *MemberList) IsSingleNode() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.saved.Joined || l.unknown {
		return false
	}
	for _, m := range l.saved.Members {
		if m.NodeID != l.self && m.RemovedAt == "" {
			return false
		}
	}
	return true
}

// Self is the node id of this agent. It changes when the agent rejoins as a later
// incarnation.
func (l *MemberList) Self() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.self
}

// SetSelf sets the node id of this agent.
func (l *MemberList) SetSelf(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.self = node
}

// HasLog reports whether this node ever had entries in its log.
func (l *MemberList) HasLog() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saved.LogOf != "" && l.saved.LogOf == l.self
}

// LogOwner is the node id under which the log was begun, "" for no log.
func (l *MemberList) LogOwner() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saved.LogOf
}

// SetLogOwner records that this node has a log from now on, or, with "", has none.
func (l *MemberList) SetLogOwner(node string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.saved.LogOf
	if was == node {
		return nil
	}
	l.saved.LogOf = node
	if err := l.write(); err != nil {
		l.saved.LogOf = was
		return err
	}
	return nil
}

// Joined reports whether this agent joined by a token: its keys are the cluster's.
func (l *MemberList) Joined() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saved.Joined
}

// Features returns what the builds of the members can apply.
func (l *MemberList) Features() *Features { return l.features }
