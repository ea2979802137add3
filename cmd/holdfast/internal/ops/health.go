package ops

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Health returns the command holdfast health.
func Health(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "health",
		Aliases: []string{"status"},
		Short:   "Show the health of the agent",
		Long: `Show the health of the agent; no token is needed. The exit code is 0 when the
agent is healthy, 6 when it is read-only, and 1 for any other fault.`,
		Args: cli.Needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Local(false)
			if err != nil {
				return err
			}
			ask := c.Health
			if a.IsObserver() { // it has no admin API
				ask = c.LocalHealth
			}
			h, err := ask(cmd.Context())
			if err != nil {
				return err
			}
			if err := printHealth(a, h); err != nil {
				return err
			}
			switch {
			case h.OK:
				return nil
			case h.OperationalMode != conf.ModeNormal:
				return cli.QuietExit(cli.ExitReadOnly)
			default:
				return cli.QuietExit(cli.ExitError)
			}
		},
	}
}

func printHealth(a *cli.App, h conf.Health) error {
	if a.AsJSON() {
		return a.PrintJSON(h)
	}
	return a.Table(nil, [][]string{
		{"ok", strconv.FormatBool(h.OK)},
		{"database_status", string(h.DatabaseStatus)},
		{"operational_mode", string(h.OperationalMode)},
		{"config_epoch", h.ConfigEpoch},
		{"schema_version", strconv.Itoa(h.SchemaVersion)},
		{"lkg_cache_valid", strconv.FormatBool(h.LKGCacheValid)},
		{"litestream_status", h.LitestreamStatus},
		{"last_backup", cli.Text(h.LastBackup)},
		{"event", cli.Text(h.Event)},
		{"err", cli.Text(h.Err)},
	})
}
