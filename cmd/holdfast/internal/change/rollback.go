package change

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Rollback returns the command holdfast rollback.
func Rollback(a *cli.App) *cobra.Command {
	var reason string
	var expect uint64
	var all, dryRun bool
	var at string
	cmd := &cobra.Command{
		Use:   "rollback SERVICE VERSION",
		Short: "Roll back to the values of an earlier version",
		Long: `Make the stored values of an earlier version the current ones, as a new version.
They are checked against the current schema.

--all rolls every service back to its values at a time, each in a change of its own:
versions increase, and what clients hold stays valid. A service that was created
later stays.`,
		Example: `  holdfast history stt-worker
  holdfast diff stt-worker --version 2
  holdfast rollback stt-worker 2 --reason "the new model is too slow"
  holdfast rollback --all --timestamp 2026-03-01T12:00:00Z --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return cli.Needs()(cmd, args)
			}
			return cli.Needs("SERVICE", "VERSION")(cmd, args)
		}, ValidArgsFunction: a.CompleteService,
	}
	cli.ReasonFlag(cmd, &reason)
	cmd.Flags().Uint64Var(&expect, "expect", 0, "only when the service is at this version, else exit code 4")
	cmd.Flags().BoolVar(&all, "all", false, "every service, to its values at --timestamp")
	cmd.Flags().StringVar(&at, "timestamp", "", "with --all: the `TIME`, such as 2026-03-01T12:00:00Z")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --all: only show what would change")
	cmd.MarkFlagsMutuallyExclusive("all", "expect")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case all && at == "":
			return cli.UsageError(cmd, "--all needs --timestamp").WithHint("say to when: --timestamp 2026-03-01T12:00:00Z; --dry-run shows what would change")
		case !all && at != "":
			return cli.UsageError(cmd, "--timestamp goes with --all").WithHint("one service goes back to a version: holdfast history %s shows when which one was made", args[0])
		case !all && dryRun: // without --all it would be ignored, and the change made
			return cli.UsageError(cmd, "--dry-run goes with --all").WithHint("holdfast diff %s --version %s shows what would change", args[0], args[1])
		}
		if all {
			t, err := cli.ParseTime(cmd, at)
			if err != nil {
				return err
			}
			return rollbackAll(cmd.Context(), a, t, reason, dryRun)
		}
		version, err := parseVersion(cmd, args[1])
		if err != nil {
			return err
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		d := conf.Draft{Service: args[0], Op: conf.OpRestore, Restore: version, Reason: reason}
		if cmd.Flags().Changed("expect") {
			d.Expect = &expect
		}
		return a.PrintChange(c.Do(cmd.Context(), d))
	}
	return cmd
}

// parseVersion reads a version number from an argument.
func parseVersion(cmd *cobra.Command, text string) (uint64, error) {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || v == 0 {
		return 0, cli.UsageError(cmd, "bad version %q: versions are numbers from 1", text)
	}
	return v, nil
}
