package ops

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/run"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/localapi/yamljson"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// exported is the file of export and import.
type exported struct {
	Format     string            `json:"format"`
	Version    int               `json:"version"`
	ExportedAt string            `json:"exported_at"`
	Epoch      string            `json:"config_epoch"`
	Services   []exportedService `json:"services"`
	Profiles   []exportedProfile `json:"profiles"`
}

type exportedService struct {
	Service string          `json:"service"`
	Version uint64          `json:"version"` // at the time of the export; not used by import
	Values  json.RawMessage `json:"values,omitempty"`
	Schema  json.RawMessage `json:"schema,omitempty"`
	Secrets []string        `json:"secrets,omitempty"` // keys whose values are left out
}

type exportedProfile struct {
	Name        string                     `json:"name"`
	Description string                     `json:"description"`
	Services    map[string]json.RawMessage `json:"services"`
}

const (
	exportFormat  = "holdfast-export"
	exportVersion = 1
	maxExport     = 256 << 20
)

// Export returns the command holdfast export.
func Export(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write all services, schemas and profiles to one readable file",
		Long: `Write the stored values and the schema of every service, and all profiles, as one JSON
or YAML file, to keep, to compare or to import elsewhere. Values of secrets are left out;
their keys are named. Without FILE, or with -, it goes to the standard output. A FILE that
ends in .yaml or .yml is YAML. Both hold the same, to the last digit.

With --db it reads a database file that no agent uses, such as one that holdfast backup
restore made: an import of the export then brings its content into a running cluster, by
ordinary changes.`,
		Example: `  holdfast export all.json
  holdfast export | jq .services[].service
  holdfast export -o yaml | less
  holdfast export --db old.db old.json`,
		Args: cobra.MaximumNArgs(1),
	}
	format := cmd.Flags().StringP("output", "o", "", "the `FORMAT`: json or yaml")
	db := cmd.Flags().String("db", "", "export this database `FILE` instead of what the agent has")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asYAML := *format == "yaml"
		switch *format {
		case "json", "yaml":
		case "":
			asYAML = len(args) == 1 && (strings.HasSuffix(args[0], ".yaml") || strings.HasSuffix(args[0], ".yml"))
		default:
			return cli.UsageError(cmd, "%q is no format of an export", *format).WithHint("use -o json or -o yaml")
		}
		var out exported
		var err error
		if *db != "" {
			out, err = exportFile(cmd.Context(), a, *db)
		} else {
			var c *client.Client
			if c, err = a.Admin(conf.RoleRead); err == nil {
				out, err = export(cmd.Context(), c)
			}
		}
		if err != nil {
			return err
		}
		text, err := cli.JSON(out, "  ")
		if err == nil && asYAML {
			text, err = yamljson.FromJSON(text)
		}
		if err != nil {
			return err
		}
		if len(args) == 0 || args[0] == "-" {
			_, err = a.Out.Write(text)
			return err
		}
		if err := os.WriteFile(args[0], text, 0o600); err != nil {
			return conf.Errorf(conf.CodeUsage, "write the export: %w", err)
		}
		a.Say("%s: %s, %s", args[0], cli.Plural(len(out.Services), "service"), cli.Plural(len(out.Profiles), "profile"))
		return nil
	}
	return cmd
}

func export(ctx context.Context, c *client.Client) (exported, error) {
	h, err := c.Health(ctx)
	if err != nil {
		return exported{}, err
	}
	out := newExported(h.ConfigEpoch)
	services, err := c.Services(ctx)
	if err != nil {
		return out, err
	}
	for _, s := range services {
		e := exportedService{Service: s.Service, Version: s.Version}
		if s.Version > 0 {
			got, err := c.Stored(ctx, s.Service, 0)
			switch {
			case err == nil:
				e.Values, e.Version = got.Config, got.Metadata.Version
			case conf.CodeOf(err) != conf.CodeNotFound: // it is deleted
				return out, err
			}
		}
		if s.HasSchema {
			info, err := c.Schema(ctx, s.Service)
			if err != nil {
				return out, err
			}
			e.Schema = info.Schema
			for _, f := range info.Fields {
				if f.IsSecret {
					e.Secrets = append(e.Secrets, f.Key)
				}
			}
		}
		out.Services = append(out.Services, e)
	}
	profiles, err := c.Profiles(ctx)
	if err != nil {
		return out, err
	}
	for _, p := range profiles {
		if p, err = c.Profile(ctx, p.Name); err != nil {
			return out, err
		}
		out.Profiles = append(out.Profiles, exportedProfile{p.Name, p.Description, p.Services})
	}
	return out, nil
}

func newExported(epoch string) exported {
	return exported{
		Format: exportFormat, Version: exportVersion, ExportedAt: conf.FormatTime(time.Now()), Epoch: epoch,
		Services: []exportedService{}, Profiles: []exportedProfile{},
	}
}

// exportFile reads a database that no agent uses.
func exportFile(ctx context.Context, a *cli.App, path string) (exported, error) {
	c, err := run.ReadFile(ctx, a, path)
	if err != nil {
		return exported{}, err
	}
	out := newExported(c.Epoch)
	byName := map[string]*exportedService{}
	for _, s := range c.Schemas {
		byName[s.Service] = &exportedService{Service: s.Service, Schema: s.Schema}
	}
	for _, r := range c.Records {
		if byName[r.Service] == nil {
			byName[r.Service] = &exportedService{Service: r.Service}
		}
		e := byName[r.Service]
		e.Version, e.Values = r.Version, r.Values
		for _, s := range r.Secrets {
			e.Secrets = append(e.Secrets, s.Key)
		}
	}
	for _, name := range conf.SortedKeys(byName) {
		out.Services = append(out.Services, *byName[name])
	}
	for _, p := range c.Profiles {
		out.Profiles = append(out.Profiles, exportedProfile{p.Name, p.Description, p.Services})
	}
	return out, nil
}
