package ops

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Audit returns the command holdfast audit.
func Audit(a *cli.App) *cobra.Command {
	var f conf.AccessFilter
	var when span
	cmd := &cobra.Command{
		Use:   "audit [SERVICE]",
		Short: "Show reads, writes and rejected requests",
		Long: `Show the access log of the whole cluster, newest first. --since and --until take a time
(2026-01-02T03:04:05Z), a day (2026-01-02), or how long ago (90m, 24h, 7d).`,
		Example: `  holdfast audit --action unauthorized --since 24h
  holdfast audit stt-worker --user ann@example.com
  holdfast audit --action reveal_secret --since 30d -o json`,
		Args: cli.Needs("[SERVICE]"), ValidArgsFunction: a.CompleteService,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.User, "user", "", "only what this `USER` did")
	fl.StringVar(&f.Action, "action", "", "only one `ACTION`: read, write, reveal_secret or unauthorized")
	fl.StringVar(&when.since, "since", "", "only at this `TIME` or later")
	fl.StringVar(&when.until, "until", "", "only at this `TIME` or earlier")
	cli.PageFlags(cmd, &f.Limit, &f.Offset)
	cli.CompleteFlag(cmd, "action", "read", "write", "reveal_secret", "unauthorized")
	out := cli.List[conf.Access]{
		Columns: []string{"WHEN", "WHO", "ACTION", "OUTCOME", "SERVICE", "KEY", "HOW"},
		Row: func(r conf.Access) []string {
			outcome := "done"
			if !r.Success {
				outcome = "refused"
			}
			return []string{r.Timestamp, r.UserID, r.Action, outcome, r.Service, r.Key, cli.Brief(r.Reason, 64)}
		},
		One: "row", Many: "rows",
	}
	cmd.RunE = when.withAdmin(a, conf.RoleWrite, func(ctx context.Context, c *client.Client, service, since, until string) error {
		f.Service, f.Since, f.Until = service, since, until
		p, err := c.AccessLog(ctx, f)
		if err != nil {
			return err
		}
		return out.PrintPage(a, p, p.Results, p.Total)
	})
	return cmd
}
