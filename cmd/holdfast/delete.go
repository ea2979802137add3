package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newDelete(a *app) *cobra.Command {
	var ch changeFlags
	cmd := &cobra.Command{
		Use:   "delete SERVICE",
		Short: "Delete the configuration of a service",
		Long: `Delete the configuration of a service; its schema and its history stay. The service
beside the agent reads nothing from then on. holdfast rollback brings it back.`,
		Args: needs("SERVICE"), ValidArgsFunction: a.completeService,
	}
	ch.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		d := conf.Draft{Service: args[0], Op: conf.OpDelete, Reason: ch.reason}
		if cmd.Flags().Changed("version") {
			d.Expect = &ch.version
		}
		out, err := c.Do(cmd.Context(), d)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(changed{Service: out.Service, Version: out.Version, Changed: out.Changed})
		}
		a.say("%s: deleted, as version %d", out.Service, out.Version)
		if out.Version > 1 {
			a.note("hint: holdfast rollback %s %d brings it back", out.Service, out.Version-1)
		}
		return nil
	}
	return cmd
}
