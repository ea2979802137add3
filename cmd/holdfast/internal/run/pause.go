package run

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
)

// Pause is the command that does nothing until it is stopped: a container of it owns the
// network that an agent and its service share, and outlives both.
func Pause(*cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "pause", Short: "Do nothing until stopped, to own the network of a container group", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			<-cmd.Context().Done()
			return nil
		},
	}
}
