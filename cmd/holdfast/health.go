package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newHealth(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "health",
		Aliases: []string{"status"},
		Short:   "Show the health of the agent",
		Long: `Show the health of the agent; no token is needed. The exit code is 0 when all is
well, 6 when the agent is read-only, and 1 for any other trouble.`,
		Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect("")
			if err != nil {
				return err
			}
			ask := c.Health
			if a.opts.Role == agent.RoleObserver { // it has no admin API
				ask = c.LocalHealth
			}
			h, err := ask(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.printHealth(h); err != nil {
				return err
			}
			switch {
			case h.OK:
				return nil
			case h.OperationalMode != conf.ModeNormal:
				return quietExit(exitReadOnly)
			default:
				return quietExit(exitError)
			}
		},
	}
}

func (a *app) printHealth(h conf.Health) error {
	if a.asJSON() {
		return a.printJSON(h)
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return a.table(nil, [][]string{
		{"ok", strconv.FormatBool(h.OK)},
		{"database_status", string(h.DatabaseStatus)},
		{"operational_mode", string(h.OperationalMode)},
		{"config_epoch", h.ConfigEpoch},
		{"schema_version", strconv.Itoa(h.SchemaVersion)},
		{"lkg_cache_valid", strconv.FormatBool(h.LKGCacheValid)},
		{"litestream_status", h.LitestreamStatus},
		{"last_backup", text(h.LastBackup)},
		{"event", text(h.Event)},
		{"err", text(h.Err)},
	})
}
