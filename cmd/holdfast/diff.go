package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newDiff(a *app) *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use:   "diff SERVICE [FILE]",
		Short: "Show what a file or an earlier version would change",
		Long: `Compare the present configuration (-) with what it would be (+) under the document
in FILE (- is standard input) or under the values of an earlier version. Defaults
are filled in on both sides, so that only what a service would notice is shown.

The exit code is 0 when there is no difference and 1 when there is one.`,
		Example: `  holdfast diff stt-worker stt-worker.json
  holdfast diff stt-worker --version 2`,
		Args: needs("SERVICE", "[FILE]"), ValidArgsFunction: a.completeService,
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "compare with the values of this version")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 2) == cmd.Flags().Changed("version") {
			return usageError(cmd, "give a FILE or a --version to compare with")
		}
		var doc []byte
		other := fmt.Sprintf("version %d", version)
		if len(args) == 2 {
			var err error
			if doc, err = a.readDocument(args[1], conf.MaxDocument); err != nil {
				return err
			}
			other = display(args[1])
		}
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return err
		}
		if doc == nil {
			if version == 0 {
				return usageError(cmd, "bad version 0: versions are numbers from 1")
			}
			stored, err := c.Stored(cmd.Context(), args[0], version)
			if err != nil {
				return err
			}
			doc = stored.Config
		}
		return a.diff(cmd.Context(), c, args[0], doc, other)
	}
	return cmd
}

// diff compares what service is with what it would be under doc.
func (a *app) diff(ctx context.Context, c *client.Client, service string, doc []byte, other string) error {
	present, err := c.Service(ctx, service)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return err
	}
	would, err := c.Do(ctx, conf.Draft{Service: service, Op: conf.OpPut, Document: doc, DryRun: true})
	if err != nil {
		return err
	}
	ds, err := deltas(present.Config, would.Config)
	if err != nil {
		return err
	}
	if a.asJSON() {
		if err := a.printJSON(map[string]any{"service": service, "version": present.Metadata.Version, "changes": ds}); err != nil {
			return err
		}
	} else if len(ds) > 0 {
		a.say("--- %s version %d", service, present.Metadata.Version)
		a.say("+++ %s", other)
		writeDeltas(a.out, ds, a.colours())
	}
	if len(ds) > 0 {
		return quietExit(exitError)
	}
	return nil
}
