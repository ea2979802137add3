package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newClusterRecover(a *app) *cobra.Command {
	o := agent.Defaults()
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
		Args: needs(),
	}
	flags := addSettings(cmd, &o)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.resolve(cmd, a, &o); err != nil {
			return err
		}
		if !yes && !a.confirm(cmd.Context(), "Are most voters lost for ever, and is every other agent stopped?") {
			return conf.Errorf(conf.CodeUsage, "nothing was done").WithHint("--yes recovers without asking")
		}
		logger, err := agent.NewLogger(o, a.err)
		if err != nil {
			return err
		}
		r, err := agent.Recover(cmd.Context(), o, logger)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(r)
		}
		a.say("%s is the whole cluster now; start it: holdfast agent --data-dir %s", r.NodeID, o.DataDir)
		a.say("the epoch will be %s", r.NewEpoch)
		for _, id := range r.Lost {
			a.say("%s has to join anew, with an empty data directory", id)
		}
		return nil
	}
	return cmd
}
