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
it in good order.

With --role observer it is no member: it follows the signed updates of its service at
an MQTT broker, keeps what the trusted key proves, and serves the same local API. It
has no admin API, no cluster port and no copy of the store, so hundreds of them are as
cheap as subscribers.

With --restore it fills an empty data directory from the backup first, and begins a new
cluster, with a new epoch, from what was there. The .env file of the lost cluster has to
be there: a backup holds no keys. Agents of the old cluster join it anew.`,
		Example: `  holdfast agent --data-dir /var/lib/holdfast --service stt-worker
  holdfast agent --join 10.0.0.1:2771 --token HF1...
  holdfast agent --role observer --mqtt mqtts://broker:8883 --trust cluster.pem --service stt-worker
  holdfast agent --restore --timestamp 2026-03-01T12:00:00Z
  CONFIG_DATA_DIR=/var/lib/holdfast holdfast agent`,
		Args: needs(),
	}
	flags := addSettings(cmd, &o)
	restore := cmd.Flags().Bool("restore", false, "fill an empty data directory from the backup first; a new epoch begins")
	point := restorePoint(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.resolve(cmd, a, &o); err != nil {
			return err
		}
		if o.Role == agent.RoleObserver {
			return a.observe(cmd.Context(), o)
		}
		p, err := point.parse(cmd)
		if err != nil {
			return err
		}
		switch {
		case *restore:
			if err := a.restoreCluster(cmd.Context(), o, p); err != nil {
				return a.finish(err)
			}
		case p.Generation != "" || !p.At.IsZero():
			return usageError(cmd, "--timestamp and --generation go with --restore")
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
	a.garbage.Do(a.collectLate)
	logger, err := agent.NewLogger(o, a.err)
	if err != nil {
		return nil, err
	}
	o.Version = buildInfo().Version
	ag, err := agent.New(ctx, o, logger)
	return ag, a.unwritable(err, o)
}

// observe runs an observer until ctx ends.
func (a *app) observe(ctx context.Context, o agent.Options) error {
	logger, err := agent.NewLogger(o, a.err)
	if err != nil {
		return err
	}
	o.Version = buildInfo().Version
	ob, err := agent.NewObserver(o, logger)
	if err != nil {
		return a.unwritable(err, o)
	}
	return ob.Run(ctx)
}

// unwritable prints keys that were made and could not be stored.
func (a *app) unwritable(err error, o agent.Options) error {
	if w, ok := errors.AsType[interface {
		error
		Lines() []string
	}](err); ok {
		// These keys exist nowhere else. The user gets them this once.
		for _, line := range w.Lines() {
			fmt.Fprintln(a.out, line)
		}
		return &conf.Error{
			Code: conf.CodeInternal, Message: err.Error(),
			Hint: "put the lines above into " + o.EnvFile + " or into the environment, then start again: they are not shown a second time",
		}
	}
	return err
}

// finish turns the end of an agent that was asked to stop into success.
func (a *app) finish(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
