package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// devSchemas is where the schemas of a checkout of this repository are.
const devSchemas = "testenv/schemas"

// Dev returns the command holdfast dev.
func Dev(a *cli.App) *cobra.Command {
	defaults := options.Defaults()
	defaults.LogLevel = "WARNING" // the terminal belongs to the person who tries things out
	defaults.ClusterAddr = "127.0.0.1:2771"
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an agent to try things out, and show how to use it",
		Long: `Run an agent with everything embedded, keep its data in ./holdfast-data, and print how to
reach it: addresses, tokens, and commands to try. It is the same agent as "holdfast
agent", with less log output and more help.

With --agents N it runs a cluster of N agents in this one process, each with its own
directory and its own ports: those of the settings for the first one, 10 higher for
the second one, and so on. A data directory that holds a cluster is started with all
of its agents.`,
		Example: `  holdfast dev
  holdfast dev --agents 3
  holdfast dev --schema-dir ./schemas --manager-port 9081`,
		Args: cli.Needs(),
	}
	settings := addSettings(cmd, defaults)
	n := cmd.Flags().Int("agents", 1, "how many agents to run, as one cluster")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		detachLog(a)
		if err := settings.Resolve(cmd, a); err != nil {
			return err
		}
		o := settings.Options
		if o.SchemaDir == "" {
			if fi, err := os.Stat(devSchemas); err == nil && fi.IsDir() {
				o.SchemaDir = devSchemas
			}
		}
		all, err := devAgents(cmd, o, *n)
		if err != nil {
			return err
		}
		d := devRun{
			a: a, all: all, infos: make([]agent.Info, len(all)),
			ready: make(chan struct{}, len(all)), ended: make(chan error, len(all)),
		}
		return d.run(cmd.Context())
	}
	return cmd
}

// devRun is one run of dev.
type devRun struct {
	a     *cli.App
	all   []options.Options
	infos []agent.Info
	ready chan struct{} // an agent is ready
	ended chan error    // an agent has ended
}

// run runs the agents until ctx ends or one of them does, and prints how to use
// them once all are ready.
func (d *devRun) run(ctx context.Context) error {
	for _, o := range d.all {
		if err := clusterPortFree(ctx, o); err != nil {
			return err
		}
	}
	// The first one by itself: an error in the settings is reported once, and the
	// others need its token.
	first, err := newAgent(ctx, d.a, d.all[0])
	if err != nil {
		return stopped(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := func(i int, ag *agent.Agent) error {
		d.infos[i] = ag.Info()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if ag.AwaitReady(ctx) == nil {
				d.ready <- struct{}{}
			}
		}()
		err := ag.Run(ctx)
		cancel()
		<-done
		return err
	}
	go func() { d.ended <- run(0, first) }()
	for i, o := range d.all[1:] {
		go func() {
			ag, err := newAgent(ctx, d.a, o) // returns when it has joined
			if err == nil {
				err = run(i+1, ag)
			}
			if err != nil {
				err = fmt.Errorf("agent %d: %w", i+2, err)
			}
			d.ended <- err
		}()
	}
	return d.wait(ctx, cancel, first)
}

// wait waits until the agents are ready, and until they have ended.
func (d *devRun) wait(ctx context.Context, cancel func(), first *agent.Agent) error {
	var failure error
	slow := time.NewTicker(5 * time.Second)
	defer slow.Stop()
	up := 0
	for left := len(d.all); left > 0; {
		select {
		case err := <-d.ended:
			left--
			if stopped(err) != nil && failure == nil {
				failure = err
			}
			cancel()
		case <-slow.C:
			if up == len(d.all) || ctx.Err() != nil {
				continue
			}
			h := first.Health()
			d.a.Note("not ready yet: database %s, mode %s%s; %d of %s ready", h.DatabaseStatus, h.OperationalMode, reasons(h), up, cli.Plural(len(d.all), "agent"))
		case <-d.ready:
			if up++; up == len(d.all) {
				welcome(ctx, d.a, d.infos, d.all[0], first.SignInURL)
			}
		}
	}
	if up == len(d.all) {
		d.a.Note("stopped; the data stays in %s", d.all[0].DataDir)
	}
	return failure
}

// reasons is why an agent is not ready, as its health says it.
func reasons(h conf.Health) string {
	var why []string
	for _, s := range []*string{h.Event, h.Err} {
		if s != nil && *s != "" {
			why = append(why, *s)
		}
	}
	if why == nil {
		return ""
	}
	return " (" + strings.Join(why, "; ") + ")"
}

// clusterPortFree fails before anything starts when a cluster port is taken: of
// several agents, the first ones would be up by the time that one is opened.
func clusterPortFree(ctx context.Context, o options.Options) error {
	host, port, err := net.SplitHostPort(o.ClusterAddr)
	if err != nil || port == "0" {
		return nil
	}
	if host == "" {
		host = "127.0.0.1"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // without the address, which the message has already
		}
		return conf.Errorf(conf.CodeUsage, "cannot listen on %s: %w", o.ClusterAddr, err).
			WithHint("stop what uses it, such as another holdfast dev, or give this one ports of its own: --cluster-addr 127.0.0.1:3771 --local-addr 127.0.0.1:3770 --manager-port 9081 --mqtt-addr none (CONFIG_CLUSTER_ADDR and so on)")
	}
	return l.Close()
}
