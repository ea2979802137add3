package client

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// BackupStatus returns the state of the cluster's backup.
func (c BackupTarget) BackupStatus(ctx context.Context) (conf.BackupStatus, error) {
	return get[conf.BackupStatus](ctx, c.caller, nil, "backups", "status")
}

// Backups lists the backups, the newest first.
func (c BackupTarget) Backups(ctx context.Context) ([]conf.Backup, error) {
	return list[conf.Backup](ctx, c.caller, nil, "backups")
}

// DrillBackup restores the backup to a temporary file and returns what was found.
func (c BackupTarget) DrillBackup(ctx context.Context) (conf.Drill, error) {
	return call[conf.Drill](ctx, c.caller, request{method: http.MethodPost, path: []string{"backups", "drill"}, change: true})
}
