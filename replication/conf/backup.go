package conf

// States of the backup. All but starting are the seed's litestream_status.
const (
	BackupHealthy  = "healthy"
	BackupError    = "error"
	BackupDisabled = "disabled"
	BackupStarting = "starting" // what is copied now was not proved yet
)

// LitestreamStatus is what the health says, which knows of no starting: healthy
// only if something of this epoch was proved before.
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

// BackupStatus tells how the backup of the cluster is. The leader makes it.
type BackupStatus struct {
	Status        string  `json:"status"`  // Backup...
	NodeID        string  `json:"node_id"` // who makes it
	Place         string  `json:"place"`
	Generation    string  `json:"generation"` // "" while none is written
	StartedAt     *string `json:"started_at"`
	Index         uint64  `json:"index"`  // of the log, that is safely at the place
	Behind        uint64  `json:"behind"` // entries that are not yet
	LagSeconds    float64 `json:"lag_seconds"`
	LagP99Seconds float64 `json:"lag_p99_seconds"`
	LastBackup    *string `json:"last_backup"`
	Waiting       int64   `json:"waiting_bytes"` // on the disk of the leader
	Err           *string `json:"err"`
	Drill         *Drill  `json:"drill"`    // the last restore drill
	Verified      *Drill  `json:"verified"` // the last good one in this epoch
}

// Drill is one proof of a backup by restoring it.
type Drill struct {
	At     string  `json:"at"`
	Index  uint64  `json:"index"` // 0 when it failed
	Bytes  int64   `json:"bytes"`
	Took   float64 `json:"took_seconds"`
	Digest string  `json:"state_digest"`
	Err    *string `json:"err"`
}

// Backup is one generation at the place of the backups.
type Backup struct {
	ID         string  `json:"id"` // CONFIG_EPOCH/TERM-NODE
	Epoch      string  `json:"config_epoch"`
	Cluster    string  `json:"cluster"` // the first epoch that is known of it
	Term       uint64  `json:"term"`
	NodeID     string  `json:"node_id"`
	StartedAt  string  `json:"started_at"`
	Newest     string  `json:"newest"`
	Bytes      int64   `json:"bytes"`
	Files      int     `json:"files"`
	VerifiedAt *string `json:"verified_at"`
}
