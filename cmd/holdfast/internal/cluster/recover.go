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
		Short: "Recover a cluster that has lost its quorum permanently",
		Long: `Make the cluster live on in the data directory of one server that is left. Its agent
and all other remaining agents must be stopped: choose the server with the newest
changes. All data of this server is kept. When its agent starts again, it leads a
cluster of one, with a new epoch; the others join again, each with an empty data
directory and a token from holdfast token create.

If most voters can be started again, start them instead: then nothing is lost. Changes
that only the lost servers had are lost, and changes that were never acknowledged may
become visible.`,
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
		if !yes && !a.Confirm(cmd.Context(), "Are most voters lost permanently, and is every other agent stopped?") {
			return conf.Errorf(conf.CodeUsage, "nothing was done").WithHint("--yes recovers without asking")
		}
		r, err := run.Recover(cmd.Context(), a, settings)
		if err != nil {
			return err
		}
		if a.AsJSON() {
			return a.PrintJSON(r)
		}
		a.Say("%s is the whole cluster now; start it: %s", r.NodeID, cli.Runnable("holdfast agent --data-dir "+settings.Options.DataDir))
		a.Say("the epoch will be %s", r.NewEpoch)
		for _, id := range r.Lost {
			a.Say("%s has to join again, with an empty data directory", id)
		}
		return nil
	}
	return cmd
}
