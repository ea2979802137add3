package client

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// BackupStatus tells how the backup of the cluster is.
func (c *Client) BackupStatus(ctx context.Context) (conf.BackupStatus, error) {
	var out conf.BackupStatus
	err := c.get(ctx, &out, nil, "backups", "status")
	return out, err
}

// Backups lists the backups, the newest first.
func (c *Client) Backups(ctx context.Context) ([]conf.Backup, error) {
	var out struct {
		Backups []conf.Backup `json:"backups"`
	}
	err := c.get(ctx, &out, nil, "backups")
	return out.Backups, err
}

// DrillBackup proves the backup by restoring it, and tells what was found.
func (c *Client) DrillBackup(ctx context.Context) (conf.Drill, error) {
	var out conf.Drill
	res, err := c.do(ctx, &c.admin, request{method: http.MethodPost, path: []string{"api", "config", "backups", "drill"}, change: true})
	if err == nil {
		err = c.admin.into(res, &out)
	}
	return out, err
}
