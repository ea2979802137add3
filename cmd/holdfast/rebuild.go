package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newRebuild(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Make a lost store anew, with a new epoch",
		Long: `Have the agent set its database and log aside and make new ones, with a new epoch,
from the values that it can prove: those in memory or in the last-known-good file.
History, earlier versions, profiles and the access log do not come along.

It needs REBUILD_TOKEN, from the environment or the agent's .env file.`,
		Args: needs(),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := a.options()
		if err != nil {
			return err
		}
		token, _ := o.LookupEnv("REBUILD_TOKEN")
		if token == "" {
			e := conf.Errorf(conf.CodeUnauthenticated, "this needs the rebuild token, and none is set")
			e.Err = a.noEnv
			return e.WithHint("set REBUILD_TOKEN in the environment, or run where the agent's .env file is (--data-dir, --env-file)")
		}
		if !yes && !a.confirm("Set the store of this agent aside and start a new epoch?") {
			return conf.Errorf(conf.CodeUsage, "nothing was done").WithHint("--yes rebuilds without asking")
		}
		c, err := a.connect("")
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
		if a.asJSON() {
			return a.printJSON(map[string]any{"success": true, "config_epoch": h.ConfigEpoch})
		}
		a.say("rebuilt: the epoch is now %s", h.ConfigEpoch)
		return nil
	}
	return cmd
}

// confirm asks the person at the terminal. Nobody there is a no.
func (a *app) confirm(question string) bool {
	if !isTerminal(a.in) {
		return false
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(a.in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
