package admin

import "github.com/holdfast-config/holdfast/replication/conf"

// backups is the backend of all routes of this file.
func (h *Handler) backups() (Backups, error) {
	if h.o.Backups == nil {
		return nil, conf.Errorf(conf.CodeUnsupported, "this agent knows of no backups").WithHint("ask a server of the cluster")
	}
	return h.o.Backups, nil
}

func (h *Handler) backupStatus(c *call) (reply, error) {
	b, err := h.backups()
	if err != nil {
		return reply{}, err
	}
	out, err := b.BackupStatus(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	return ok(out)
}

func (h *Handler) listBackups(c *call) (reply, error) {
	b, err := h.backups()
	if err != nil {
		return reply{}, err
	}
	list, err := b.Backups(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	if list == nil {
		list = []conf.Backup{}
	}
	return ok(backupsResponse{Backups: list})
}

func (h *Handler) drillBackup(c *call) (reply, error) {
	b, err := h.backups()
	if err != nil {
		return reply{}, err
	}
	out, err := b.DrillBackup(c.r.Context())
	if err != nil {
		return reply{}, err
	}
	return ok(out)
}
