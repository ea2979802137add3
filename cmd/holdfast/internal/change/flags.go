package change

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// flags are the flags of the commands that change a service.
type flags struct {
	cmd     *cobra.Command
	reason  string
	version uint64
	rollout string
}

func addFlags(cmd *cobra.Command) *flags {
	f := &flags{cmd: cmd}
	cli.ReasonFlag(cmd, &f.reason)
	cmd.Flags().Uint64Var(&f.version, "version", 0, "only when the service is at this version, else exit code 4")
	cmd.Flags().StringVar(&f.rollout, "rollout", "", "`HOW` it goes out: canary or linear in steps, none for all at once, replace to end the rollout that runs")
	return f
}

// do sends a draft with what the flags say.
func (f *flags) do(ctx context.Context, c *client.Client, d conf.Draft) (conf.Outcome, error) {
	d.Reason, d.Rollout = f.reason, f.rollout
	if f.cmd.Flags().Changed("version") {
		d.Expect = &f.version
	}
	return c.Do(ctx, d)
}
