package cluster

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/run"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func recoverCommand(a *cli.App) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Revive a cluster that lost most of its voters for ever",
		Long: `Make the cluster live on in the data directory of one server that is left. Its agent
must be stopped, and so must all others that are left: choose the one that has the
newest changes. Everything that this server has is kept. When its agent is started
again, it leads a cluster of one, with a new epoch; the others join it anew, each with
an empty data directory and a token from holdfast token create.

As long as most voters can be started again, start them instead: nothing is lost then.
Changes that only the lost servers had are gone, and changes that were never
acknowledged may come to life.`,
		Example: `  holdfast cluster recover --data-dir /var/lib/holdfast --yes
  holdfast agent --data-dir /var/lib/holdfast`,
		Args: cli.Needs(),
	}
	settings := run.AddSettings(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := settings.Resolve(cmd, a); err != nil {
			return err
		}
		if !yes && !a.Confirm(cmd.Context(), "Are most voters lost for ever, and is every other agent stopped?") {
			return conf.Errorf(conf.CodeUsage, "nothing was done").WithHint("--yes recovers without asking")
		}
		r, err := run.Recover(cmd.Context(), a, settings)
		if err != nil {
			return err
		}
		if a.AsJSON() {
			return a.PrintJSON(r)
		}
		a.Say("%s is the whole cluster now; start it: holdfast agent --data-dir %s", r.NodeID, settings.Options.DataDir)
		a.Say("the epoch will be %s", r.NewEpoch)
		for _, id := range r.Lost {
			a.Say("%s has to join anew, with an empty data directory", id)
		}
		return nil
	}
	return cmd
}
