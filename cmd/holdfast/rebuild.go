package main

import (
	"bufio"
	"context"
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
		if !yes && !a.confirm(cmd.Context(), "Set the store of this agent aside and start a new epoch?") {
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
func (a *app) confirm(ctx context.Context, question string) bool {
	if !isTerminal(a.in) {
		return false
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	answer, err := a.readLine(ctx)
	answer = strings.ToLower(answer)
	return err == nil && (answer == "y" || answer == "yes")
}

// readLine reads what a person types. It gives up with ctx: a read of a terminal
// cannot be interrupted otherwise.
func (a *app) readLine(ctx context.Context) (string, error) {
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := bufio.NewReader(a.in).ReadString('\n')
		read <- result{strings.TrimSpace(text), err}
	}()
	select {
	case r := <-read:
		return r.text, r.err
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return "", ctx.Err()
	}
}
