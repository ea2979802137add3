package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls", "services"}, Short: "List the services", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			list, err := c.Services(cmd.Context())
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"services": list})
			}
			if len(list) == 0 {
				a.note("no services yet: holdfast schema put SERVICE FILE adds the first one")
				return nil
			}
			rows := make([][]string, len(list))
			for i, s := range list {
				rows[i] = []string{s.Service, strconv.FormatUint(s.Version, 10), s.UpdatedAt, s.UpdatedBy}
			}
			return a.table([]string{"SERVICE", "VERSION", "UPDATED", "BY"}, rows)
		},
	}
}
