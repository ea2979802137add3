package ops

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Man returns the command holdfast man, which packages use.
func Man(*cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: `Write one manual page for each command into DIR. The date on them is that of
SOURCE_DATE_EPOCH, when it is set.`,
		Example: `  holdfast man /usr/local/share/man/man1`,
		Hidden:  true,
		Args:    cli.Needs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // everybody may read them
				return conf.Errorf(conf.CodeUsage, "make the directory: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Holdfast", Manual: "Holdfast"}, args[0]); err != nil {
				return conf.Errorf(conf.CodeUsage, "write the pages: %w", err)
			}
			return nil
		},
	}
}
