package read

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Search returns the command holdfast search.
func Search(a *cli.App) *cobra.Command {
	var service, complexity, kind string
	var req conf.SearchRequest
	cmd := &cobra.Command{
		Use:   "search [QUERY]",
		Short: "Search keys, values and descriptions of all services",
		Example: `  holdfast search whisper
  holdfast search --service stt-worker --complexity simple
  holdfast search voice --type string -o json`,
		Args: cli.Needs("[QUERY]"),
	}
	f := cmd.Flags()
	f.StringVar(&service, "service", "", "only this service")
	f.StringVar(&complexity, "complexity", "", "only simple or advanced")
	f.StringVar(&kind, "type", "", "only string, integer, float, boolean, enum, path or secret")
	cli.PageFlags(cmd, &req.Limit, &req.Offset)
	out := cli.List[conf.Item]{
		Columns: []string{"SERVICE", "KEY", "VALUE", "TYPE", "COMPLEXITY", "DESCRIPTION"},
		Row: func(r conf.Item) []string {
			return []string{r.Service, r.Key, cli.Brief(r.ValueJSON, 40), string(r.Type), string(r.Complexity), cli.Brief(r.Description, 60)}
		},
		One: "match", Many: "matches",
	}
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, args []string) error {
		req.Query = cli.Arg(args, 0)
		req.Service, req.Complexity, req.Type = optional(service), optional(conf.Complexity(complexity)), optional(conf.Type(kind))
		p, err := c.Search(ctx, req)
		if err != nil {
			return err
		}
		return out.PrintPage(a, p, p.Results, p.Total)
	})
	return cmd
}

// optional is nil for an empty value.
func optional[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}
