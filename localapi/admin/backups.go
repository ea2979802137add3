package admin

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Backups reports the backups of the database. A drill is requested on the leader.
type Backups interface {
	BackupStatus(ctx context.Context) (conf.BackupStatus, error)
	// Backups lists the generations, the newest first.
	Backups(ctx context.Context) ([]conf.Backup, error)
	// DrillBackup restores the backup to a temporary file and compares it.
	DrillBackup(ctx context.Context) (conf.Drill, error)
}

// backupRoom reports and tests backups.
type backupRoom struct{ backups Backups }

func (b *backupRoom) routes() []Route {
	routes := []Route{
		{
			Name: "listBackups", Method: http.MethodGet, Path: "/api/config/backups", Role: conf.RoleRead, Summary: "List the backups, the newest first",
			handle: func(c *call) (reply, error) {
				list, err := b.backups.Backups(c.r.Context())
				return listed("backups", list, err)
			},
		},
		{
			Name: "backupStatus", Method: http.MethodGet, Path: "/api/config/backups/status", Role: conf.RoleRead,
			Summary: "How the backup is, and when it was last proved",
			handle:  func(c *call) (reply, error) { return answer(b.backups.BackupStatus(c.r.Context())) },
		},
		{
			Name: "drillBackup", Method: http.MethodPost, Path: "/api/config/backups/drill", Role: conf.RoleWrite,
			Summary: "Prove the backup by restoring it to a temporary file",
			handle:  func(c *call) (reply, error) { return answer(b.backups.DrillBackup(c.r.Context())) }, writes: true,
		},
	}
	if b.backups == nil {
		return unsupported(routes, conf.Errorf(conf.CodeUnsupported, "this agent makes no backups").WithHint("use a server of the cluster"))
	}
	return routes
}
