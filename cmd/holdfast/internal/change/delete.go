package change

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Delete returns the command holdfast delete.
func Delete(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete SERVICE",
		Short: "Delete the configuration of a service",
		Long: `Delete the configuration of a service; its schema and its history stay. The service
then reads no configuration. holdfast rollback restores it.`,
		Args: cli.Needs("SERVICE"), ValidArgsFunction: a.CompleteService,
	}
	flags := addFlags(cmd)
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		out, err := flags.do(ctx, c, conf.Draft{Service: args[0], Op: conf.OpDelete})
		if err != nil {
			return err
		}
		err = a.Print(cli.ChangeOf(out), "%s: deleted, as version %d", out.Service, out.Version)
		if out.Version > 1 && !a.AsJSON() {
			a.Note("hint: holdfast rollback %s %d brings it back", out.Service, out.Version-1)
		}
		return err
	})
	return cmd
}
