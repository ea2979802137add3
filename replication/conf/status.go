package conf

import "time"

// States of a member, as ClusterStatus tells them.
const (
	NodeLeader      = "leader"
	NodeVoter       = "voter"
	NodeNonVoter    = "non-voter"
	NodeRemoved     = "removed"
	NodeUnreachable = "unreachable"
	NodeRebuilding  = "rebuilding" // it answers and serves, and has no replica: it is damaged, or not fed yet
)

// Changes of the cluster that a caller may ask for.
const (
	ChangePromote  = "promote"  // make a server a voter
	ChangeDemote   = "demote"   // make a voter a non-voter
	ChangeRemove   = "remove"   // take a member out; its certificate opens nothing any more
	ChangeTransfer = "transfer" // hand the leadership to a voter, "" = to whom the leader chooses
	ChangeLeave    = "leave"    // take this agent itself out
)

// ClusterStatus is the cluster as one agent sees it.
type ClusterStatus struct {
	ClusterID   string       `json:"cluster_id"`
	ConfigEpoch string       `json:"config_epoch"`
	Leader      string       `json:"leader"` // node id, "" when none is known
	Quorum      bool         `json:"quorum"` // changes can be made now
	Term        uint64       `json:"term"`
	Index       uint64       `json:"index"`  // the newest log index that this agent knows to be committed
	Voters      int          `json:"voters"` // how many vote now
	Nodes       []NodeStatus `json:"nodes"`
}

// NodeStatus is one agent of a ClusterStatus. Of one that is not Reachable it
// holds what was known last, and Err says why it does not answer.
type NodeStatus struct {
	NodeID             string            `json:"node_id"`
	Role               string            `json:"role"`    // MemberServer or MemberSidecar
	Service            string            `json:"service"` // the service beside it, "" when it is not known
	Addr               string            `json:"addr"`
	State              string            `json:"state"`   // NodeLeader, NodeVoter, ...
	Version            string            `json:"version"` // of its build
	LagEntries         uint64            `json:"lag_entries"`
	LagSeconds         float64           `json:"lag_seconds"` // since it last heard from a leader
	Reachable          bool              `json:"reachable"`
	Err                string            `json:"err,omitempty"`
	CertificateExpires string            `json:"certificate_expires"` // FormatTime's form, "" when it is not known
	ConfigEpoch        string            `json:"config_epoch"`
	Digest             string            `json:"digest"`     // of its store's state
	Services           map[string]uint64 `json:"services"`   // service -> version that it serves
	UpdatedAt          string            `json:"updated_at"` // when this was heard from it

	// What it says of itself, of one that is Reachable: Event is what it did or
	// waits for, Since when that began (FormatTime's form).
	Mode  Mode   `json:"mode"`
	Event string `json:"event"`
	Since string `json:"since"`
}

// Limits of a join token that a caller may ask for.
const (
	DefaultTokenTTL = time.Hour
	MaxTokenTTL     = 720 * time.Hour
	MaxTokenUses    = 1_000_000
)

// JoinTokenRequest asks for a join token.
type JoinTokenRequest struct {
	Role    string // MemberServer or MemberSidecar
	Service string // only an agent beside this service may use it, "" = any
	TTL     time.Duration
	Uses    int // 0 = without limit
}

// NewJoinToken is a join token at the one moment when its secret is known.
type NewJoinToken struct {
	ID        string `json:"id"`
	Token     string `json:"token"`
	Command   string `json:"command"`    // a whole command line that joins, to paste
	ExpiresAt string `json:"expires_at"` // "": never
}
