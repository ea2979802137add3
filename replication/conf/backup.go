package conf

// States of the backup. All except BackupStarting are values of litestream_status.
const (
	BackupHealthy  = "healthy"
	BackupError    = "error"
	BackupDisabled = "disabled"
	BackupStarting = "starting" // no restore drill of this generation has succeeded yet
)

// LitestreamStatus returns the value for health. BackupStarting is healthy if a restore
// drill of this epoch has succeeded before, else an error.
func (b BackupStatus) LitestreamStatus() string {
	switch {
	case b.Status != BackupStarting:
		return b.Status
	case b.Verified != nil:
		return BackupHealthy
	default:
		return BackupError
	}
}

// BackupStatus is the status of the cluster's backup, which the leader makes.
type BackupStatus struct {
	Status        string  `json:"status"`  // Backup...
	NodeID        string  `json:"node_id"` // of the leader that makes it
	Place         string  `json:"place"`
	Generation    string  `json:"generation"` // "" while none is written
	StartedAt     *string `json:"started_at"`
	Index         uint64  `json:"index"`  // log index that the target has
	Behind        uint64  `json:"behind"` // entries that the target lacks
	LagSeconds    float64 `json:"lag_seconds"`
	LagP99Seconds float64 `json:"lag_p99_seconds"`
	LastBackup    *string `json:"last_backup"`
	Waiting       int64   `json:"waiting_bytes"` // on the disk of the leader
	Err           *string `json:"err"`
	Drill         *Drill  `json:"drill"`    // the last restore drill
	Verified      *Drill  `json:"verified"` // the last successful one in this epoch
}

// Drill is one restore drill.
type Drill struct {
	At     string  `json:"at"`
	Index  uint64  `json:"index"` // 0 when it failed
	Bytes  int64   `json:"bytes"`
	Took   float64 `json:"took_seconds"`
	Digest string  `json:"state_digest"`
	Err    *string `json:"err"`
}

// Backup is one generation at the backup target.
type Backup struct {
	ID         string  `json:"id"` // CONFIG_EPOCH/TERM-NODE
	Epoch      string  `json:"config_epoch"`
	Cluster    string  `json:"cluster"` // its first known epoch
	Term       uint64  `json:"term"`
	NodeID     string  `json:"node_id"`
	StartedAt  string  `json:"started_at"`
	Newest     string  `json:"newest"`
	Bytes      int64   `json:"bytes"`
	Files      int     `json:"files"`
	VerifiedAt *string `json:"verified_at"`
}
