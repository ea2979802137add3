package change

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Validate returns the command holdfast validate.
func Validate(a *cli.App) *cobra.Command {
	var patch bool
	cmd := &cobra.Command{
		Use:   "validate SERVICE FILE",
		Short: "Check a configuration without changing anything",
		Long: `Check a JSON document (- is standard input) against the schema of a service, and
show all errors at once. Nothing is changed; a read token is enough.`,
		Example: `  holdfast validate stt-worker stt-worker.json
  echo '{"vad_threshold": 0.7}' | holdfast validate stt-worker - --patch -o json`,
		Args: cli.Needs("SERVICE", "FILE"),
	}
	cmd.Flags().BoolVar(&patch, "patch", false, "the document is a JSON merge patch of the current values")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		doc, err := a.ReadDocument(args[1], conf.MaxDocument)
		if err != nil {
			return err
		}
		c, err := a.Admin(conf.RoleRead)
		if err != nil {
			return err
		}
		d := conf.Draft{Service: args[0], Op: conf.OpPut, Document: doc, DryRun: true}
		if patch {
			d.Op = conf.OpPatch
		}
		out, err := c.Do(cmd.Context(), d)
		if err != nil {
			return err
		}
		return a.Print(map[string]any{"valid": true, "config": out.Config, "new_version": out.Version},
			"%s is valid for %s", cli.FileName(args[1]), args[0])
	}
	return cmd
}
