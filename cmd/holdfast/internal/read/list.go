package read

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// List returns the command holdfast list.
func List(a *cli.App) *cobra.Command {
	return cli.List[conf.ServiceInfo]{
		Columns: []string{"SERVICE", "VERSION", "UPDATED", "BY"},
		Row: func(s conf.ServiceInfo) []string {
			return []string{s.Service, strconv.FormatUint(s.Version, 10), s.UpdatedAt, s.UpdatedBy}
		},
		Empty: "no services yet: holdfast schema put SERVICE FILE adds the first one",
	}.Command(a, &cobra.Command{
		Use: "list", Aliases: []string{"ls", "services"}, Short: "List the services",
	}, "services", (*client.Client).Services)
}
