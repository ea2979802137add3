package change

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Unset returns the command holdfast unset.
func Unset(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "unset SERVICE KEY...",
		Short:   "Return values of a service to their defaults",
		Long:    "Take stored values away, all in one version or none: each key has its default again.",
		Example: `  holdfast unset stt-worker vad_threshold --reason "the default is fine"`,
		Args:    cli.Needs("SERVICE", "KEY..."), ValidArgsFunction: a.CompleteService,
	}
	flags := addFlags(cmd)
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		fields, err := readFields(ctx, c, args[0], args[1:])
		if err != nil {
			return err
		}
		doc := map[string]any{}
		for _, key := range args[1:] {
			path, name := fields.resolve(key)
			_, known := fields.byKey[name]
			if !known {
				if like := fields.similar(name); like != "" {
					return conf.Errorf(conf.CodeNotFound, "%s has no key %q", args[0], key).WithHint("did you mean %s?", like)
				}
			}
			conf.Merge(doc, path.Nest(nil))
			if known { // an earlier build may have stored a value beside that of the field
				for _, other := range conf.Spellings(fields.stored, name) {
					conf.Merge(doc, other.Nest(nil))
				}
			}
		}
		patch, err := values.Compact(doc)
		if err != nil {
			return err
		}
		return a.PrintChange(flags.do(ctx, c, conf.Draft{Service: args[0], Op: conf.OpPatch, Document: patch}))
	})
	return cmd
}
