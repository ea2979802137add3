package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/localapi/client"
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
	Version uint64          `json:"version"` // when it was exported; import does not need it
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

func newExport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write all services, schemas and profiles to one readable file",
		Long: `Write the stored values and the schema of every service, and all profiles, as one JSON
or YAML file, to keep, to compare or to import elsewhere. Values of secrets are left out;
their keys are named. Without FILE, or with -, it goes to the standard output. A FILE that
ends in .yaml or .yml is YAML. Both hold the same, to the last digit.

With --db it reads a database file that no agent uses, such as one that holdfast backup
restore made: exported and imported, its content becomes that of a running cluster again,
by ordinary changes.`,
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
			return usageError(cmd, "%q is no format of an export", *format).WithHint("use -o json or -o yaml")
		}
		var out exported
		var err error
		if *db != "" {
			out, err = a.exportFile(cmd.Context(), *db)
		} else {
			var c *client.Client
			if c, err = a.admin(conf.RoleRead); err == nil {
				out, err = export(cmd.Context(), c)
			}
		}
		if err != nil {
			return err
		}
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(out); err != nil {
			return err
		}
		text := buf.Bytes()
		if asYAML {
			if text, err = toYAML(text); err != nil {
				return err
			}
		}
		if len(args) == 0 || args[0] == "-" {
			_, err = a.out.Write(text)
			return err
		}
		if err := os.WriteFile(args[0], text, 0o600); err != nil {
			return conf.Errorf(conf.CodeUsage, "write the export: %w", err)
		}
		a.say("%s: %s, %s", args[0], plural(len(out.Services), "service"), plural(len(out.Profiles), "profile"))
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
			if err == nil {
				e.Values, e.Version = got.Config, got.Metadata.Version
			} else if conf.CodeOf(err) != conf.CodeNotFound { // never configured
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
func (a *app) exportFile(ctx context.Context, path string) (exported, error) {
	logger, err := agent.NewLogger(agent.Defaults(), a.err)
	if err != nil {
		return exported{}, err
	}
	c, err := agent.ReadFile(ctx, path, logger)
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

func newImport(a *app) *cobra.Command {
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Put the services, schemas and profiles of an export into effect",
		Long: `Store what holdfast export wrote: first the schema of each service, then its values, each
as an ordinary change that is checked, signed and recorded; then the profiles. What is
already so is left alone, and what the file does not name stays. Secrets are not in the
file: set them afterwards. Done again after it was cut short, it goes on. FILE is JSON or
YAML, and may have been edited by hand.`,
		Example: `  holdfast import all.json --dry-run
  holdfast import all.json --reason "moved from the old cluster"`,
		Args: needs("FILE"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the history: why")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check, and say what would change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := a.readExport(args[0])
		if err != nil {
			return err
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		if reason == "" {
			reason = "import of an export of " + in.ExportedAt
		}
		return a.imports(cmd.Context(), c, in, reason, dryRun)
	}
	return cmd
}

func (a *app) readExport(path string) (in exported, err error) {
	var data []byte
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(a.in, maxExport))
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return in, conf.Errorf(conf.CodeUsage, "read the export: %w", err)
	}
	// What begins like JSON is to be JSON.
	if head := bytes.TrimSpace(data); len(head) > 0 && head[0] != '{' {
		if data, err = fromYAML(data); err != nil {
			return in, err
		}
	}
	if err := conf.DecodeStrict(data, maxExport, &in); err != nil {
		return in, err
	}
	if in.Format != exportFormat || in.Version != exportVersion {
		return in, conf.Errorf(conf.CodeUnsupported, "%s is not an export that this build knows", path).WithHint("holdfast export makes one")
	}
	return in, nil
}

func (a *app) imports(ctx context.Context, c *client.Client, in exported, reason string, dryRun bool) error {
	say := func(what, name string) {
		if dryRun {
			what = "would be " + what
		}
		a.say("%s: %s", name, what)
	}
	for _, s := range in.Services {
		if len(s.Schema) > 0 {
			now, err := c.Schema(ctx, s.Service)
			if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
				return err
			}
			if !sameJSON(now.Schema, s.Schema) {
				if !dryRun {
					if _, _, err := c.PutSchema(ctx, s.Service, s.Schema, client.Change{Reason: reason}); err != nil {
						return conf.Errorf(conf.CodeOf(err), "the schema of %s: %w", s.Service, err)
					}
				}
				say("schema stored", s.Service)
			}
		}
		if len(s.Values) == 0 {
			continue
		}
		now, err := c.Stored(ctx, s.Service, 0)
		if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
			return err
		}
		if err == nil && sameJSON(now.Config, s.Values) {
			say("left as it is", s.Service)
			continue
		}
		expect := now.Metadata.Version
		if err != nil { // what was deleted goes on counting
			if expect, err = lastVersion(ctx, c, s.Service); err != nil {
				return err
			}
		}
		d := conf.Draft{Service: s.Service, Op: conf.OpPut, Document: s.Values, Expect: &expect, Reason: reason}
		if dryRun {
			say("changed", s.Service)
			continue
		}
		out, err := c.Do(ctx, d)
		if err != nil {
			return errors.Join(conf.Errorf(conf.CodeOf(err), "%s: %w", s.Service, err))
		}
		a.say("%s: version %d", s.Service, out.Version)
	}
	for _, p := range in.Profiles {
		now, err := c.Profile(ctx, p.Name)
		if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
			return err
		}
		if err == nil && sameProfile(now, p) {
			continue
		}
		if !dryRun {
			if _, err := c.SaveProfile(ctx, conf.Profile{Name: p.Name, Description: p.Description, Services: p.Services}, nil, client.Change{Reason: reason}); err != nil {
				return conf.Errorf(conf.CodeOf(err), "profile %s: %w", p.Name, err)
			}
		}
		say("saved", "profile "+p.Name)
	}
	for _, s := range in.Services {
		if len(s.Secrets) > 0 {
			a.note("%s: its secrets are not in the file: %s", s.Service, strings.Join(s.Secrets, ", "))
		}
	}
	return nil
}

// lastVersion is the version of a service that is not there: of its deletion, or 0.
func lastVersion(ctx context.Context, c *client.Client, service string) (uint64, error) {
	versions, err := c.Versions(ctx, service, 1)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return 0, err
	}
	if len(versions) == 0 {
		return 0, nil
	}
	return versions[0].Version, nil
}

func sameProfile(a conf.Profile, b exportedProfile) bool {
	if a.Description != b.Description || len(a.Services) != len(b.Services) {
		return false
	}
	for name, v := range b.Services {
		if !sameJSON(a.Services[name], v) {
			return false
		}
	}
	return true
}

// sameJSON compares without regard to spaces and to the order of members.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, err1 := json.Marshal(x)
	q, err2 := json.Marshal(y)
	return err1 == nil && err2 == nil && bytes.Equal(p, q)
}
