package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Nearest is the candidate that is most like name, "" when none is close.
func Nearest(name string, candidates []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := distance(name, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of characters to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, above+1, corner+cost)
			corner = above
		}
	}
	return row[len(b)]
}

// CompleteService offers the names of services, for the first argument.
func (a *App) CompleteService(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	return a.Complete(func(ctx context.Context, c *client.Client) (names []string, err error) {
		list, err := c.Services(ctx)
		for _, s := range list {
			names = append(names, s.Service)
		}
		return names, err
	})(cmd, args, start)
}

// Complete offers names for the first argument. It offers none when the agent
// does not answer within two seconds.
func (a *App) Complete(names func(context.Context, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		c, err := a.Admin(conf.RoleRead)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := names(ctx, c)
		if err != nil {
			list = nil
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// CompleteFlag offers values for a flag of cmd.
func CompleteFlag(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that cmd lacks
}
