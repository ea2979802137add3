package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newAudit(a *app) *cobra.Command {
	var f conf.AccessFilter
	var since, until string
	cmd := &cobra.Command{
		Use:   "audit [SERVICE]",
		Short: "Show who read, changed or was refused",
		Long: `Show the access log of the whole cluster, newest first. --since and --until take a time
(2026-01-02T03:04:05Z), a day (2026-01-02), or how long ago (90m, 24h, 7d).`,
		Example: `  holdfast audit --action unauthorized --since 24h
  holdfast audit stt-worker --user ann@example.com
  holdfast audit --action reveal_secret --since 30d -o json`,
		Args: needs("[SERVICE]"), ValidArgsFunction: a.completeService,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.User, "user", "", "only what this `USER` did")
	fl.StringVar(&f.Action, "action", "", "only one `ACTION`: read, write, reveal_secret or unauthorized")
	fl.StringVar(&since, "since", "", "only at this `TIME` or later")
	fl.StringVar(&until, "until", "", "only at this `TIME` or earlier")
	fl.IntVar(&f.Limit, "limit", 100, "at most this many, up to 1000")
	fl.IntVar(&f.Offset, "offset", 0, "leave out this many first")
	_ = cmd.RegisterFlagCompletionFunc("action", cobra.FixedCompletions([]string{"read", "write", "reveal_secret", "unauthorized"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			f.Service = args[0]
		}
		var err error
		if f.Since, f.Until, err = parseSpan(cmd, since, until); err != nil {
			return err
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		p, err := c.AccessLog(cmd.Context(), f)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(p)
		}
		rows := make([][]string, len(p.Results))
		for i, r := range p.Results {
			outcome := "done"
			if !r.Success {
				outcome = "refused"
			}
			rows[i] = []string{r.Timestamp, r.UserID, r.Action, outcome, r.Service, r.Key, brief(r.Reason, 64)}
		}
		if len(rows) > 0 {
			if err := a.table([]string{"WHEN", "WHO", "ACTION", "OUTCOME", "SERVICE", "KEY", "HOW"}, rows); err != nil {
				return err
			}
		}
		a.page(len(rows), p.Total, "row", "rows")
		return nil
	}
	return cmd
}
