package change

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Set returns the command holdfast set.
func Set(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set SERVICE KEY=VALUE...",
		Short: "Change values of a service",
		Long: `Change one or more values of a service, all in one version or none. The schema of
the service sets how each value is parsed: as a text, a number, true or false.
KEY:=JSON takes a value as JSON. Keys of nested objects are dotted; a name that has
dots itself and is no field of the schema is written in double quotes.`,
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
		keys := make([]string, len(list))
		for i, as := range list {
			keys[i] = as.key
		}
		fields, err := readFields(cmd.Context(), c, args[0], keys)
		if err != nil {
			return err
		}
		for _, as := range list {
			_, as.key = fields.resolve(as.key)
			if f := fields.byKey[as.key]; f.IsSecret && f.Env == "" { // the agent itself rejects one from the environment, with a hint
				return conf.Errorf(conf.CodeUsage, "%s is a secret, and the value of a secret is not taken as an argument: others see it in the process list, and the shell keeps it", as.key).
					WithHint("holdfast secret set %s %s. If the value was real, choose another one", args[0], as.key)
			}
		}
		patch, err := fields.patch(list)
		if err != nil {
			return err
		}
		out, err := flags.do(cmd.Context(), c, conf.Draft{Service: args[0], Op: conf.OpPatch, Document: patch})
		if err = a.PrintChange(out, err); err == nil {
			noteHidden(cmd.Context(), a, c, fields, list)
		}
		return err
	}
	return cmd
}

// noteHidden says which of the values that were set the environment of the agent hides:
// they are stored, and served by agents without the variable.
func noteHidden(ctx context.Context, a *cli.App, c *client.Client, fields fieldSet, list []assignment) {
	for _, as := range list {
		_, key := fields.resolve(as.key)
		f := fields.byKey[key]
		if f.IsSecret || f.Env == "" {
			continue
		}
		x, err := c.Explain(ctx, fields.service)
		if err != nil {
			return // the change is made; this is only a note about it
		}
		for _, e := range x.Fields {
			if e.Key == key && e.Winner != nil && e.Winner.Source == conf.SourceEnv {
				a.Note("note: on this agent the variable %s decides %s of %s, and hides the value that was stored", f.Env, key, fields.service)
			}
		}
	}
}
