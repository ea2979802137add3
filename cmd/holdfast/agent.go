package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newAgent(a *app) *cobra.Command {
	o := agent.Defaults()
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run an agent beside a service",
		Long: `Run an agent: it keeps the configuration store, serves it on localhost to the
service beside it, and offers the admin API.

In an empty data directory it starts a new cluster of one and generates its keys
and two API tokens into the .env file; with --join it joins a cluster that is there,
by a token that "holdfast token create" made on one of its agents. It serves from the
last-known-good file at once and opens the store after that. SIGTERM or Ctrl-C stops
it in good order.`,
		Example: `  holdfast agent --data-dir /var/lib/holdfast --service stt-worker
  holdfast agent --join 10.0.0.1:2771 --token HF1...
  CONFIG_DATA_DIR=/var/lib/holdfast holdfast agent`,
		Args: needs(),
	}
	flags := addSettings(cmd, &o)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.resolve(cmd, a, &o); err != nil {
			return err
		}
		ag, err := a.newAgent(cmd.Context(), o)
		if err != nil {
			return a.finish(err) // a stop while it waits to join is no failure
		}
		return a.finish(ag.Run(cmd.Context()))
	}
	return cmd
}

// newAgent builds an agent that logs to stderr.
func (a *app) newAgent(ctx context.Context, o agent.Options) (*agent.Agent, error) {
	logger, err := agent.NewLogger(o, a.err)
	if err != nil {
		return nil, err
	}
	o.Version = buildInfo().Version
	ag, err := agent.New(ctx, o, logger)
	if w, ok := errors.AsType[interface {
		error
		Lines() []string
	}](err); ok {
		// These keys exist nowhere else. The user gets them this once.
		for _, line := range w.Lines() {
			fmt.Fprintln(a.out, line)
		}
		return nil, &conf.Error{
			Code: conf.CodeInternal, Message: err.Error(),
			Hint: "put the lines above into " + o.EnvFile + " or into the environment, then start again: they are not shown a second time",
		}
	}
	return ag, err
}

// finish turns the end of an agent that was asked to stop into success.
func (a *app) finish(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
