package run

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/fallback"
	"github.com/holdfast-config/holdfast/agent/observer"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Agent returns the command holdfast agent.
func Agent(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run an agent beside a service",
		Long: `Run an agent: it keeps the configuration store, serves it on localhost to the
service beside it, and offers the admin API.

In an empty data directory it starts a new cluster of one and generates its keys
and two API tokens into the .env file; with --join it joins a cluster that is there,
with a token that "holdfast token create" made on one of its agents. It serves from the
last-known-good file at once and opens the store after that. SIGTERM or Ctrl-C is a
graceful shutdown; SIGHUP reads the log level again.

With --role observer it is not a member: it subscribes to the signed updates of its
service at an MQTT broker, verifies them with the trusted key, and serves the same local
API. It has no admin API, no cluster port and no copy of the store, so hundreds of them
cost no more than subscribers.

With --restore it first fills an empty data directory from the backup, and starts a new
cluster, with a new epoch, from it. The .env file of the lost cluster must be in place: a
backup holds no keys. Agents of the old cluster join the new one.`,
		Example: `  holdfast agent --data-dir /var/lib/holdfast --service stt-worker
  holdfast agent --join 10.0.0.1:2771 --token HF1...
  holdfast agent --role observer --mqtt mqtts://broker:8883 --trust cluster.pem --service stt-worker
  holdfast agent --restore --timestamp 2026-03-01T12:00:00Z
  CONFIG_DATA_DIR=/var/lib/holdfast holdfast agent`,
		Args: cli.Needs(),
	}
	settings := AddSettings(cmd)
	restore := cmd.Flags().Bool("restore", false, "first fill an empty data directory from the backup, in a new epoch")
	point := AddPoint(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		detachLog(a)
		damage, err := settings.ResolveDamaged(cmd, a)
		if err != nil {
			return err
		}
		if err := reloadOnHangup(cmd, a, settings); err != nil {
			return err
		}
		o, ctx := settings.Options, cmd.Context()
		if o.Role == options.RoleObserver {
			if err := observer.CheckDir(o); err != nil {
				return err
			}
		} else {
			p, err := point.parse(cmd)
			if err != nil {
				return err
			}
			switch {
			case *restore && damage != nil:
				return damage
			case *restore:
				if err := restoreCluster(ctx, a, o, p); err != nil {
					return stopped(err)
				}
			case p.Generation != "" || !p.At.IsZero():
				return cli.UsageError(cmd, "--timestamp and --generation go with --restore")
			}
		}
		logger, err := process.NewLogger(o, a.Err)
		if err != nil {
			return err
		}
		group := limitMemory(a.LookupEnv, logger)
		err = fallback.Run(ctx, fallback.Setup{
			Options: o, Damage: damage, Logger: logger, New: newRunner(a, logger, group),
			Resolve: func() (options.Options, error, error) {
				o := options.Defaults()
				damage, err := o.ResolveDamaged(settings.given(cmd), a.LookupEnv)
				o.Version = settings.Options.Version
				return o, damage, err
			},
		})
		return stopped(unwritable(a, o, err)) // a stop while the agent waits to join is not a failure
	}
	return cmd
}

// tuneOnce is for tuneGC, once in a process.
var tuneOnce sync.Once

// detachLog makes stderr a stream that never blocks and never ends the process, whatever
// its reader does: an agent serves with or without its log.
func detachLog(a *cli.App) {
	signal.Ignore(syscall.SIGPIPE) // writes return EPIPE instead
	w := process.NewLogWriter(a.Err)
	a.Err = w
	log.SetOutput(w) // of packages without a logger of their own
	a.AtEnd = append(a.AtEnd, func() {
		w.Flush(time.Second)
		w.Close()
	})
}

// reloadOnHangup reads the log level again at each SIGHUP, which otherwise ends a process.
func reloadOnHangup(cmd *cobra.Command, a *cli.App, settings *Settings) error {
	logger, err := process.NewLogger(settings.Options, a.Err)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			o := options.Defaults()
			err := o.Resolve(settings.given(cmd), a.LookupEnv)
			if err == nil {
				_, err = process.NewLogger(o, a.Err) // sets the level of all loggers
			}
			if err != nil {
				logger.Warn("SIGHUP: the log level stays as it is", "err", err, "hint", conf.HintOf(err))
				continue
			}
			logger.Info("SIGHUP: read the log level again", "log_level", o.LogLevel, "hint", "other settings are read at a start")
		}
	}()
	return nil
}

// newAgent builds an agent that logs to stderr.
func newAgent(ctx context.Context, a *cli.App, o options.Options) (*agent.Agent, error) {
	logger, err := process.NewLogger(o, a.Err)
	if err != nil {
		return nil, err
	}
	tuneOnce.Do(func() { tuneGC(a.LookupEnv, limitMemory(a.LookupEnv, logger)) })
	ag, err := agent.New(ctx, o, logger)
	return ag, unwritable(a, o, err)
}

// newRunner returns what builds an agent, or an observer.
func newRunner(a *cli.App, logger *slog.Logger, group int64) func(context.Context, options.Options, *process.Held) (fallback.Runner, error) {
	return func(ctx context.Context, o options.Options, held *process.Held) (fallback.Runner, error) {
		if o.Role == options.RoleObserver {
			return observer.NewWith(o, held, logger)
		}
		tuneOnce.Do(func() { tuneGC(a.LookupEnv, group) })
		return agent.NewWith(ctx, o, held, logger)
	}
}

// unwritable prints keys that were generated and could not be stored.
func unwritable(a *cli.App, o options.Options, err error) error {
	w, ok := errors.AsType[interface {
		error
		Lines() []string
	}](err)
	if !ok {
		return err
	}
	// These keys exist nowhere else: the user sees them this once.
	for _, line := range w.Lines() {
		fmt.Fprintln(a.Out, line)
	}
	return &conf.Error{
		Code: conf.CodeInternal, Message: err.Error(),
		Hint: "put the lines above into " + o.EnvFile + " or into the environment, then start again: they are not shown a second time",
	}
}

// stopped returns nil for an agent that ended because its context ended.
func stopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
