package change

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Set returns the command holdfast set.
func Set(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set SERVICE KEY=VALUE...",
		Short: "Change values of a service",
		Long: `Change one or more values of a service, all in one version or none. The schema of
the service sets how each value is parsed: as a text, a number, true or false.
KEY:=JSON takes a value as JSON. Keys of nested objects are dotted.`,
		Example: `  holdfast set stt-worker vad_threshold=0.6
  holdfast set stt-worker whisper_model=small.en streaming_partials=true --reason "better accuracy"
  holdfast set router 'limits:={"per_minute": 30}'`,
		Args: cli.Needs("SERVICE", "KEY=VALUE..."), ValidArgsFunction: a.CompleteService,
	}
	flags := addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := parseAssignments(cmd, args[1:])
		if err != nil {
			return err
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		info, err := c.Schema(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		fields := newFieldSet(info)
		for _, as := range list {
			if f := fields.byKey[as.key]; f.IsSecret && f.Env == "" { // the agent itself rejects one from the environment, with a hint
				return conf.Errorf(conf.CodeUsage, "%s is a secret, and the value of a secret is not taken as an argument: others see it in the process list, and the shell keeps it", as.key).
					WithHint("holdfast secret set %s %s. If the value was real, choose another one", args[0], as.key)
			}
		}
		patch, err := fields.patch(list)
		if err != nil {
			return err
		}
		return a.PrintChange(flags.do(cmd.Context(), c, conf.Draft{Service: args[0], Op: conf.OpPatch, Document: patch}))
	}
	return cmd
}
