package change

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Diff returns the command holdfast diff.
func Diff(a *cli.App) *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use:   "diff SERVICE [FILE]",
		Short: "Show what a file or an earlier version would change",
		Long: `Compare the current configuration (-) with the result (+) of the document in FILE
(- is standard input) or of the values of an earlier version. Defaults are filled in
on both sides, so that only changes that a service would see are shown.

The exit code is 0 when there is no difference and 1 when there is one.`,
		Example: `  holdfast diff stt-worker stt-worker.json
  holdfast diff stt-worker --version 2`,
		Args: cli.Needs("SERVICE", "[FILE]"), ValidArgsFunction: a.CompleteService,
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "compare with the values of this version")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 2) == cmd.Flags().Changed("version") {
			return cli.UsageError(cmd, "give a FILE or a --version to compare with")
		}
		var doc []byte
		other := fmt.Sprintf("version %d", version)
		if len(args) == 2 {
			var err error
			if doc, err = a.ReadDocument(args[1], conf.MaxDocument); err != nil {
				return err
			}
			other = cli.FileName(args[1])
		}
		c, err := a.Admin(conf.RoleRead)
		if err != nil {
			return err
		}
		if doc == nil {
			if version == 0 {
				return cli.UsageError(cmd, "bad version 0: versions are numbers from 1")
			}
			stored, err := c.Stored(cmd.Context(), args[0], version)
			if err != nil {
				return err
			}
			doc = stored.Config
		}
		return diff(cmd.Context(), a, c, args[0], doc, other)
	}
	return cmd
}

// diff prints how the document of service would change under doc.
func diff(ctx context.Context, a *cli.App, c *client.Client, service string, doc []byte, other string) error {
	present, err := c.Service(ctx, service)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return err
	}
	would, err := c.Do(ctx, conf.Draft{Service: service, Op: conf.OpPut, Document: doc, DryRun: true})
	if err != nil {
		return err
	}
	ds, err := values.Compare(present.Config, would.Config)
	if err != nil {
		return err
	}
	if a.AsJSON() {
		if err := a.PrintJSON(map[string]any{"service": service, "version": present.Metadata.Version, "changes": ds}); err != nil {
			return err
		}
	} else if len(ds) > 0 {
		a.Say("--- %s version %d", service, present.Metadata.Version)
		a.Say("+++ %s", other)
		values.WriteDeltas(a.Out, ds, a.Colors())
	}
	if len(ds) > 0 {
		return cli.QuietExit(cli.ExitError)
	}
	return nil
}
