package ops

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
)

// Version returns the command holdfast version.
func Version(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this binary", Args: cli.Needs(),
		RunE: func(*cobra.Command, []string) error {
			b := a.Build()
			commit := b.Commit
			if b.Modified {
				commit += "+changes"
			}
			return a.Print(b, "holdfast %s (%s, %s, %s)", b.Version, commit, b.Go, b.Platform)
		},
	}
}
