package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newRollback(a *app) *cobra.Command {
	var reason string
	var expect uint64
	cmd := &cobra.Command{
		Use:   "rollback SERVICE VERSION",
		Short: "Put the values of an earlier version into effect",
		Long: `Make the stored values of an earlier version the current ones, as a new version.
They are checked against the schema of today.`,
		Example: `  holdfast history stt-worker
  holdfast diff stt-worker --version 2
  holdfast rollback stt-worker 2 --reason "the new model is too slow"`,
		Args: needs("SERVICE", "VERSION"), ValidArgsFunction: a.completeService,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	cmd.Flags().Uint64Var(&expect, "expect", 0, "only when the service is at this version, else exit code 4")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		version, err := parseVersion(cmd, args[1])
		if err != nil {
			return err
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		d := conf.Draft{Service: args[0], Op: conf.OpRestore, Restore: version, Reason: reason}
		if cmd.Flags().Changed("expect") {
			d.Expect = &expect
		}
		out, err := c.Do(cmd.Context(), d)
		if err != nil {
			return err
		}
		return a.printChanged(changed{Service: out.Service, Version: out.Version, Changed: out.Changed})
	}
	return cmd
}
