package conf

// Status of an instance: what is known of its running one version. A later one in this
// order replaces an earlier one of the same version; of several workers the worst counts.
type InstanceStatus string

// What an agent knows without the help of the service, and what the service says.
const (
	InstanceReceived InstanceStatus = "received" // the agent serves the version
	InstanceRead     InstanceStatus = "read"     // the version went out to the service: a 200, a matching 304, an event, a file
	InstanceApplying InstanceStatus = "applying" // by an acknowledgement
	InstanceApplied  InstanceStatus = "applied"  // by an acknowledgement
	InstanceRejected InstanceStatus = "rejected" // by an acknowledgement, its health or its crash
	InstanceLost     InstanceStatus = "lost"     // nothing was heard for 90 s; only the leader says so
)

// Health of the service beside an agent.
const (
	HealthUnknown   = "" // nobody asks
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// Report is what one agent tells the leader of one service beside it. It is a state, not
// an event: repeats, and reports that come late, change nothing.
type Report struct {
	Instance string            `json:"instance"` // CONFIG_INSTANCE, else the node id
	Node     string            `json:"node"`
	Labels   map[string]string `json:"labels,omitempty"`
	Service  string            `json:"service"`
	Epoch    string            `json:"config_epoch"`
	Version  uint64            `json:"version"` // served now
	Status   InstanceStatus    `json:"status"`  // of Version
	Since    string            `json:"since"`   // of Status, FormatTime's form
	Reason   string            `json:"reason,omitempty"`
	Details  []AckDetail       `json:"details,omitempty"`
	Worker   string            `json:"worker,omitempty"` // whose word Status is

	Health      string `json:"health,omitempty"`
	HealthSince string `json:"health_since,omitempty"`

	// Refused is the candidate that the service said no to, 0 for none. It comes from the
	// mark on the disk, so it is told again after a restart. Reason and Details are of it.
	Refused uint64 `json:"refused,omitempty"`
	// Revert is the version of the mark: Refused + 1.
	Revert uint64 `json:"revert,omitempty"`
	// Joined is the log index at which this agent first had the service: an agent that joins
	// while a step runs is no target of that step.
	Joined uint64 `json:"joined,omitempty"`

	Acknowledges bool `json:"acknowledges,omitempty"` // the service has ever acknowledged here
	ReportOrder

	Reads []KeyRead `json:"reads,omitempty"` // only keys whose last read is new to the leader
}

// ReportOrder says which of two reports of an instance is the later one, and to whom.
type ReportOrder struct {
	Term uint64 `json:"term"` // of the leader that it is for
	Seq  uint64 `json:"seq"`  // grows with each report of an instance in one process; with Boot it orders them
	Boot string `json:"boot"` // of the agent's process
}

// ReportBatch is what one agent reports at once.
type ReportBatch struct {
	Reports []Report `json:"reports"`
}

// ReportReply is the answer of the leader. Reports that were for another term are not taken:
// the caller reports all again for this one.
type ReportReply struct {
	Success bool   `json:"success"`
	Term    uint64 `json:"term"`
}

// KeyRead says when a key was last read at an instance, to the hour at best.
type KeyRead struct {
	Key string `json:"key"` // empty: the whole document
	At  string `json:"at"`
}

// AckDetail says what a service has against one key.
type AckDetail struct {
	Key     string `json:"key"`
	Message string `json:"message"`
}

// Ack is the body of POST /v1/ack/{service}.
type Ack struct {
	Version uint64         `json:"version"`
	Epoch   string         `json:"config_epoch"`
	Status  InstanceStatus `json:"status"` // applying, applied or rejected
	Reason  string         `json:"reason,omitempty"`
	Details []AckDetail    `json:"details,omitempty"`
	Worker  string         `json:"worker,omitempty"`
}

// Instance is one instance of a service as the leader has it.
type Instance struct {
	Instance    string            `json:"instance"`
	Node        string            `json:"node"`
	Addr        string            `json:"addr,omitempty"` // of a member
	Kind        string            `json:"kind"`           // member, observer, mqtt
	Labels      map[string]string `json:"labels,omitempty"`
	Version     uint64            `json:"version"`
	Epoch       string            `json:"config_epoch"`
	Status      InstanceStatus    `json:"status"`
	Reason      string            `json:"reason,omitempty"`
	Details     []AckDetail       `json:"details,omitempty"`
	Worker      string            `json:"worker,omitempty"`
	Since       string            `json:"since"`
	Age         float64           `json:"age"` // seconds since its last report
	Health      string            `json:"health,omitempty"`
	HealthSince string            `json:"health_since,omitempty"`
	Refused     uint64            `json:"refused,omitempty"`   // as in Report
	HeldBack    bool              `json:"held_back,omitempty"` // it serves the revert of what it refused
	Candidate   bool              `json:"candidate,omitempty"` // Version is the candidate of the rollout that runs

	Acknowledges bool `json:"acknowledges,omitempty"` // the service has ever acknowledged here
}

// Instances is the answer of GET /api/config/services/{s}/instances.
type Instances struct {
	Service   string     `json:"service"`
	Version   uint64     `json:"version"`             // the stable version
	Candidate uint64     `json:"candidate,omitempty"` // of the rollout that runs
	Epoch     string     `json:"config_epoch"`
	Complete  bool       `json:"complete"`      // false: this agent has no leader to ask, or the leader is new
	Why       string     `json:"why,omitempty"` // it is not complete
	Summary   string     `json:"summary"`       // "3 of 4 run v8; stt-2 refused: port in use"
	Instances []Instance `json:"instances"`
	Keys      []KeyUse   `json:"keys,omitempty"` // with ?keys=1: who reads which key
}

// KeyUse says which instances read a key.
type KeyUse struct {
	Key      string `json:"key"`
	Readers  int    `json:"readers"`             // instances that read it
	LastRead string `json:"last_read,omitempty"` // empty: never, as far as this leader knows
}
