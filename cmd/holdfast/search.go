package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newSearch(a *app) *cobra.Command {
	var service, complexity, kind string
	var limit, offset int
	cmd := &cobra.Command{
		Use:   "search [QUERY]",
		Short: "Search keys, values and descriptions of all services",
		Example: `  holdfast search whisper
  holdfast search --service stt-worker --complexity simple
  holdfast search voice --type string -o json`,
		Args: needs("[QUERY]"),
	}
	f := cmd.Flags()
	f.StringVar(&service, "service", "", "only this service")
	f.StringVar(&complexity, "complexity", "", "only simple or advanced")
	f.StringVar(&kind, "type", "", "only string, integer, float, boolean, enum, path or secret")
	f.IntVar(&limit, "limit", 100, "at most this many, up to 1000")
	f.IntVar(&offset, "offset", 0, "leave out this many first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := conf.SearchRequest{Limit: limit, Offset: offset}
		if len(args) > 0 {
			req.Query = args[0]
		}
		req.Service = optional(service)
		req.Complexity = optional(conf.Complexity(complexity))
		req.Type = optional(conf.Type(kind))
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return err
		}
		res, err := c.Search(cmd.Context(), req)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(res)
		}
		rows := make([][]string, len(res.Results))
		for i, r := range res.Results {
			rows[i] = []string{r.Service, r.Key, brief(r.ValueJSON, 40), string(r.Type), string(r.Complexity), brief(r.Description, 60)}
		}
		if len(rows) > 0 {
			if err := a.table([]string{"SERVICE", "KEY", "VALUE", "TYPE", "COMPLEXITY", "DESCRIPTION"}, rows); err != nil {
				return err
			}
		}
		a.page(len(rows), res.Total, "match", "matches")
		return nil
	}
	return cmd
}

// optional is nil for an empty value.
func optional[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}

// page says how many results there are beside those shown.
func (a *app) page(shown, total int, one, many string) {
	noun := many
	if total == 1 {
		noun = one
	}
	if shown < total {
		a.note("%d of %d %s; --limit and --offset show the others", shown, total, noun)
		return
	}
	a.note("%d %s", total, noun)
}
