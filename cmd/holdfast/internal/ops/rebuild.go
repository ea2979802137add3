package ops

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Rebuild returns the command holdfast rebuild.
func Rebuild(a *cli.App) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Rebuild a lost store, with a new epoch",
		Long: `The agent moves its database and log to quarantine and makes new ones, with a new
epoch, from the values that it can verify: those in memory or in the last-known-good
file. History, earlier versions, profiles and the access log are lost.

It needs REBUILD_TOKEN, from the environment or the agent's .env file.`,
		Args: cli.Needs(),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		token, err := a.RebuildToken()
		if err != nil {
			return err
		}
		if !yes && !a.Confirm(cmd.Context(), "Set the store of this agent aside and start a new epoch?") {
			return conf.Errorf(conf.CodeUsage, "nothing was done").WithHint("--yes rebuilds without asking")
		}
		c, err := a.Local(false)
		if err != nil {
			return err
		}
		if err := c.Rebuild(cmd.Context(), token); err != nil {
			return err
		}
		h, err := c.Health(cmd.Context())
		if err != nil {
			return err
		}
		return a.Print(map[string]any{"success": true, "config_epoch": h.ConfigEpoch}, "rebuilt: the epoch is now %s", h.ConfigEpoch)
	}
	return cmd
}
