package conf

import "time"

// States of a member in ClusterStatus.
const (
	NodeLeader      = "leader"
	NodeVoter       = "voter"
	NodeNonVoter    = "non-voter"
	NodeRemoved     = "removed"
	NodeUnreachable = "unreachable"
	NodeRebuilding  = "rebuilding" // it serves reads without a replica, which it copies or waits for
)

// Changes of the cluster.
const (
	ChangePromote  = "promote"  // make a server a voter
	ChangeDemote   = "demote"   // make a voter a non-voter
	ChangeRemove   = "remove"   // remove a member; its certificate is no longer accepted
	ChangeTransfer = "transfer" // transfer the leadership to a voter, "" = the leader chooses
	ChangeLeave    = "leave"    // remove this agent
)

// ClusterStatus is the cluster as one agent sees it.
type ClusterStatus struct {
	ClusterID   string       `json:"cluster_id"`
	ConfigEpoch string       `json:"config_epoch"`
	Leader      string       `json:"leader"` // node id, "" when none is known
	Quorum      bool         `json:"quorum"` // writes are possible
	Term        uint64       `json:"term"`
	Index       uint64       `json:"index"`  // commit index, as far as this agent knows
	Voters      int          `json:"voters"` // number of voters
	Nodes       []NodeStatus `json:"nodes"`
}

// CutOff is a member that the leader sends nothing to, because it does not vote and
// responded with a higher term.
type CutOff struct {
	NodeID string `json:"node_id"`
	Term   uint64 `json:"term"`
	Since  string `json:"since"` // FormatTime's form
}

// NodeStatus is one agent of a ClusterStatus. For one that is not Reachable it has the
// last known values, and Err is the reason.
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
	UpdatedAt          string            `json:"updated_at"` // when it reported this

	// Only of one that is Reachable: Event is its last action or what it waits for,
	// Since the time of that (FormatTime's form).
	Mode  Mode   `json:"mode"`
	Event string `json:"event"`
	Since string `json:"since"`
}

// Limits of a join token.
const (
	DefaultTokenTTL = time.Hour
	MaxTokenTTL     = 720 * time.Hour
	MaxTokenUses    = 1_000_000
)

// JoinTokenRequest requests a join token.
type JoinTokenRequest struct {
	Role    string // MemberServer or MemberSidecar
	Service string // only for an agent beside this service, "" = any
	TTL     time.Duration
	Uses    int // 0 = no limit
}

// NewJoinToken is a new join token, the only form that contains its secret.
type NewJoinToken struct {
	ID        string `json:"id"`
	Token     string `json:"token"`
	Command   string `json:"command"`    // a complete command line that joins
	ExpiresAt string `json:"expires_at"` // "": never
}
