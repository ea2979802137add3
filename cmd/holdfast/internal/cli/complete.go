package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Nearest returns the candidate that is most similar to name, "" when none is close.
func Nearest(name string, candidates []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		if d := conf.EditDistance(name, c, least-1); d < least {
			best, least = c, d
		}
	}
	return best
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
