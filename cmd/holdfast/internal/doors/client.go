package doors

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/clients"
)

// Client returns the command holdfast client.
func Client(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "client LANGUAGE", Short: "Print the client library for python or node, one file",
		Example: `  holdfast client python > holdfast.py
  holdfast client node > holdfast.mjs`,
		Args: cli.Needs("LANGUAGE"), ValidArgs: clients.Languages(),
		RunE: func(_ *cobra.Command, args []string) error {
			source, err := clients.File(args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.Out, source)
			return err
		},
	}
}
