package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newUnset(a *app) *cobra.Command {
	var ch changeFlags
	cmd := &cobra.Command{
		Use:     "unset SERVICE KEY...",
		Short:   "Return values of a service to their defaults",
		Long:    "Take stored values away, all in one version or none: each key has its default again.",
		Example: `  holdfast unset stt-worker vad_threshold --reason "the default is fine"`,
		Args:    needs("SERVICE", "KEY..."), ValidArgsFunction: a.completeService,
	}
	ch.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		info, err := c.Schema(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		fs := newFieldSet(info)
		doc := map[string]any{}
		for _, key := range args[1:] {
			if _, known := fs.byKey[key]; !known {
				if like := fs.unknown(key); like != "" {
					return conf.Errorf(conf.CodeNotFound, "%s has no key %q", args[0], key).WithHint("did you mean %s?", like)
				}
			}
			merge(doc, conf.Nest(key, nil, nil))
		}
		patch, err := compact(doc)
		if err != nil {
			return err
		}
		return a.change(cmd, conf.Draft{Service: args[0], Op: conf.OpPatch, Document: patch}, ch)
	}
	return cmd
}
