package recovery

import (
	"errors"
	"io/fs"
	"os"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Info is rebuild.info: what the last rebuild was made from.
type Info struct {
	ConfigEpoch string   `json:"config_epoch"`
	OldEpoch    string   `json:"old_epoch"`
	RebuiltAt   string   `json:"rebuilt_at"`
	Source      string   `json:"source"` // backup, memory, lkg, defaults, cluster; log or database after a recovery
	Reason      string   `json:"reason"`
	Services    []string `json:"services"`
	Dropped     []string `json:"dropped"` // services whose values were rejected: they are at their defaults
}

// Write saves it in the data directory.
func (i Info) Write(o *options.Options) error { return lkg.WriteJSON(o.RebuildInfo(), i, 0o600) }

// LastRebuild is the time in rebuild.info, nil when there is none.
func LastRebuild(o *options.Options) *string {
	data, err := os.ReadFile(o.RebuildInfo())
	if err != nil {
		return nil
	}
	var info Info
	if err := conf.DecodeStrict(data, conf.MaxDocument, &info); err != nil || info.RebuiltAt == "" {
		return nil
	}
	return &info.RebuiltAt
}

// Source names of Pending and Info.
const (
	sourceLog      = "log"
	sourceDatabase = "database"
	sourceBackup   = "backup"
	sourceMemory   = "memory"
	sourceLKG      = "lkg"
	sourceDefaults = "defaults"
)

// Pending is recover.pending: what the next start has to finish.
type Pending struct {
	Epoch    string `json:"config_epoch"`
	OldEpoch string `json:"old_epoch"`
	NodeID   string `json:"node_id"`
	Source   string `json:"source"`
	Reason   string `json:"reason,omitempty"` // default: the recovery of a cluster

	newer []*conf.Record // of the old epoch, that may be newer than what the database has
}

// FromBackup reports whether the store comes from a backup.
func (p *Pending) FromBackup() bool { return p.Source == sourceBackup }

func (p *Pending) write(o *options.Options) error {
	return lkg.WriteJSON(o.RecoverPending(), p, 0o600)
}

// LoadPending returns what a recovery left to be done, nil when there was none.
func LoadPending(o *options.Options) (*Pending, error) {
	data, err := os.ReadFile(o.RecoverPending())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is not an error
	}
	var p Pending
	if err == nil {
		err = conf.DecodeStrict(data, conf.MaxDocument, &p)
	}
	if err == nil && (p.Epoch == "" || p.NodeID == "") {
		err = conf.Errorf(conf.CodeCorrupt, "it is not complete")
	}
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "%s cannot be read: %w", o.RecoverPending(), err).WithHint("run holdfast cluster recover again")
	}
	return &p, nil
}

// DropPending removes recover.pending.
func DropPending(o *options.Options) error {
	if err := os.Remove(o.RecoverPending()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
