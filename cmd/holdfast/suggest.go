package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// nearest is the candidate that is most like name, "" when none is close.
func nearest(name string, candidates []string) string {
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

// completeService offers the names of services, for the first argument.
func (a *app) completeService(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(cmd *cobra.Command) ([]string, error) {
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return nil, err
		}
		list, err := c.Services(cmd.Context())
		names := make([]string, len(list))
		for i, s := range list {
			names[i] = s.Service
		}
		return names, err
	})(cmd, args, start)
}

// complete offers names for the first argument. An agent that does not answer
// offers none, and soon.
func (a *app) complete(names func(*cobra.Command) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, 2*time.Second)
		defer cancel()
		cmd.SetContext(ctx)
		list, err := names(cmd)
		if err != nil {
			list = nil
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}
