package ops

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/yamljson"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Import returns the command holdfast import.
func Import(a *cli.App) *cobra.Command {
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import the services, schemas and profiles of an export",
		Long: `Store what holdfast export wrote: first the schema of each service, then its values, each
as an ordinary change that is checked, signed and recorded; then the profiles. Values
that are equal are not written again, and what the file does not name stays. Secrets are
not in the file: set them afterwards. After an interruption, run it again. FILE is JSON or
YAML, and may have been edited by hand.`,
		Example: `  holdfast import all.json --dry-run
  holdfast import all.json --reason "moved from the old cluster"`,
		Args: cli.Needs("FILE"),
	}
	cli.ReasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only, and show what would change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := readExport(a, args[0])
		if err != nil {
			return err
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		reason = cmp.Or(reason, "import of an export of "+in.ExportedAt)
		return importer{a: a, c: c, reason: reason, dryRun: dryRun}.run(cmd.Context(), in)
	}
	return cmd
}

func readExport(a *cli.App, path string) (in exported, err error) {
	var data []byte
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(a.In, maxExport))
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return in, conf.Errorf(conf.CodeUsage, "read the export: %w", err)
	}
	// What starts like JSON must be JSON.
	if head := bytes.TrimSpace(data); len(head) > 0 && head[0] != '{' {
		if data, err = yamljson.ToJSON(data); err != nil {
			return in, err
		}
	}
	if err := conf.DecodeStrict(data, maxExport, &in); err != nil {
		return in, err
	}
	if in.Format != exportFormat || in.Version != exportVersion {
		return in, conf.Errorf(conf.CodeUnsupported, "%s is not an export that this build supports", path).WithHint("holdfast export makes one")
	}
	return in, nil
}

// importer stores an export, or with dryRun prints what storing it would change.
type importer struct {
	a      *cli.App
	c      *client.Client
	reason string
	dryRun bool
}

func (im importer) run(ctx context.Context, in exported) error {
	for _, s := range in.Services {
		if err := im.schema(ctx, s); err != nil {
			return err
		}
		if err := im.values(ctx, s); err != nil {
			return err
		}
	}
	for _, p := range in.Profiles {
		if err := im.profile(ctx, p); err != nil {
			return err
		}
	}
	for _, s := range in.Services {
		if len(s.Secrets) > 0 {
			im.a.Note("%s: its secrets are not in the file: %s", s.Service, strings.Join(s.Secrets, ", "))
		}
	}
	return nil
}

func (im importer) say(what, name string) {
	if im.dryRun {
		what = "would be " + what
	}
	im.a.Say("%s: %s", name, what)
}

func (im importer) schema(ctx context.Context, s exportedService) error {
	if len(s.Schema) == 0 {
		return nil
	}
	now, err := im.c.Schema(ctx, s.Service)
	if err = unlessMissing(err); err != nil || sameJSON(now.Schema, s.Schema) {
		return err
	}
	if !im.dryRun {
		if _, _, err := im.c.PutSchema(ctx, s.Service, s.Schema, client.Change{Reason: im.reason}); err != nil {
			return conf.Errorf(conf.CodeOf(err), "the schema of %s: %w", s.Service, err)
		}
	}
	im.say("schema stored", s.Service)
	return nil
}

func (im importer) values(ctx context.Context, s exportedService) error {
	if len(s.Values) == 0 {
		return nil
	}
	now, err := im.c.Stored(ctx, s.Service, 0)
	expect := now.Metadata.Version
	switch {
	case conf.CodeOf(err) == conf.CodeNotFound: // a deleted service continues its version numbers
		if expect, err = lastVersion(ctx, im.c, s.Service); err != nil {
			return err
		}
	case err != nil:
		return err
	case sameJSON(now.Config, s.Values):
		im.say("left as it is", s.Service)
		return nil
	}
	if im.dryRun {
		im.say("changed", s.Service)
		return nil
	}
	out, err := im.c.Do(ctx, conf.Draft{Service: s.Service, Op: conf.OpPut, Document: s.Values, Expect: &expect, Reason: im.reason})
	if err != nil {
		return conf.Errorf(conf.CodeOf(err), "%s: %w", s.Service, err)
	}
	im.a.Say("%s: version %d", s.Service, out.Version)
	return nil
}

func (im importer) profile(ctx context.Context, p exportedProfile) error {
	now, err := im.c.Profile(ctx, p.Name)
	same := err == nil && now.Description == p.Description && maps.EqualFunc(now.Services, p.Services, sameJSON)
	if err = unlessMissing(err); err != nil || same {
		return err
	}
	if !im.dryRun {
		if _, err := im.c.SaveProfile(ctx, conf.Profile{Name: p.Name, Description: p.Description, Services: p.Services}, nil, client.Change{Reason: im.reason}); err != nil {
			return conf.Errorf(conf.CodeOf(err), "profile %s: %w", p.Name, err)
		}
	}
	im.say("saved", "profile "+p.Name)
	return nil
}

// unlessMissing drops the error for what does not exist.
func unlessMissing(err error) error {
	if conf.CodeOf(err) == conf.CodeNotFound {
		return nil
	}
	return err
}

// lastVersion is the version of a missing service: that of its tombstone, or 0.
func lastVersion(ctx context.Context, c *client.Client, service string) (uint64, error) {
	versions, err := c.Versions(ctx, service, 1)
	if err != nil || len(versions) == 0 {
		return 0, unlessMissing(err)
	}
	return versions[0].Version, nil
}

// sameJSON compares ignoring spaces and the order of members.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
