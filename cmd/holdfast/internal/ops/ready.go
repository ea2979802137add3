package ops

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Ready returns the command holdfast ready.
func Ready(a *cli.App) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Check whether the agent can serve configuration",
		Long: `Exit with 0 when the agent has configuration to serve, from its store or from its
last-known-good file, and with 6 when it has not or cannot be reached. With --wait
it retries until then.`,
		Example: `  holdfast ready --wait 30s && exec my-service`,
		Args:    cli.Needs(),
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.Local(false)
		if err != nil {
			return err
		}
		if err := awaitReady(cmd.Context(), c, wait); err != nil {
			if conf.CodeOf(err) == conf.CodeUsage {
				return err
			}
			e := conf.Errorf(conf.CodeReadOnly, "not ready: %w", err)
			return e.WithHint("%s", conf.HintOf(err))
		}
		return a.Print(map[string]bool{"ready": true}, "ready")
	}
	return cmd
}

// awaitReady waits until the agent is ready, no longer than wait.
func awaitReady(ctx context.Context, c *client.Client, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.Ready(ctx)
		if err == nil || conf.CodeOf(err) == conf.CodeUsage || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
