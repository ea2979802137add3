package ops

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/migrate"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/localapi/yamljson"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Import returns the command holdfast import.
func Import(a *cli.App) *cobra.Command {
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Import an export, or the configuration files of another program",
		Long: `Store what holdfast export wrote: the schema and the values of each service, both in one
ordinary change that is checked, signed and recorded, or neither; then the profiles.
A service that is rejected is named and stays as it is, the others are imported, and the
exit code tells. --dry-run lets the agent compute the same changes and writes none. A
profile that its services do not accept (any more) is saved as it is, and named.

Values that are equal are not written again, and what the file does not name stays.
Secrets are not in the file: set them afterwards. After an interruption, run it again.
FILE is JSON or YAML, and may have been edited by hand.

With --from the files are those of another program: .env, YAML, JSON, Java properties, or
ConfigMaps and Secrets as kubectl writes them. Their values become those of one SERVICE,
and with --infer-schema its schema is made from them, both in one change. A file replaces
what the ones before it have, and the service what it had. What would change is shown
first, and is written after a question, or with --yes. What looks like a secret becomes
one: it is asked for, and never shown.`,
		Example: `  holdfast import all.json --dry-run
  holdfast import all.json --reason "moved from the old cluster"
  holdfast import --from env app.env --service app --infer-schema --dry-run
  kubectl get configmap app -o yaml | holdfast import --from configmap - --service app --infer-schema --yes`,
	}
	cli.ReasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only, and show what would change")
	from := migrate.AddFlags(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if from.Given() {
			return cli.Needs("FILE...")(cmd, args)
		}
		return cli.Needs("FILE")(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := from.Check(); err != nil {
			return err
		}
		if from.Given() {
			return from.Run(cmd.Context(), a, args, reason, dryRun)
		}
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
	if err := conf.DecodeStrictDepth(data, maxExport, conf.MaxSchemaDepth+exportDepth, &in); err != nil {
		return in, err
	}
	if in.Format != exportFormat || in.Version != exportVersion {
		return in, conf.Errorf(conf.CodeUnsupported, "%s is not an export that this build supports", path).WithHint("holdfast export makes one")
	}
	return in, nil
}

// exportDepth is the depth of services[].schema.
const exportDepth = 3

// importer stores an export, or with dryRun prints what storing it would change.
type importer struct {
	a      *cli.App
	c      *client.Client
	reason string
	dryRun bool
	failed map[string]bool // services that cannot be imported
}

func (im importer) run(ctx context.Context, in exported) error {
	im.failed = map[string]bool{}
	var first error
	n := 0
	// fail reports what was not imported, and returns the error when the rest would fail too.
	fail := func(what string, err error) error {
		e := conf.Errorf(conf.CodeOf(err), "%s is not imported: %w", what, err).WithHint("%s", conf.HintOf(err))
		if cause, ok := errors.AsType[*conf.Error](err); ok {
			e.Details = cause.Details
		}
		if !isOwnFault(err) {
			return e
		}
		cli.Report(im.a.Err, e)
		if n++; first == nil {
			first = e
		}
		return nil
	}
	for _, s := range in.Services {
		if err := im.service(ctx, s, in.Profiles); err != nil {
			im.failed[s.Service] = true
			if err := fail(s.Service, err); err != nil {
				return err
			}
		}
	}
	for _, p := range in.Profiles {
		if err := im.profile(ctx, p, in.Services); err != nil {
			if err := fail("profile "+p.Name, err); err != nil {
				return err
			}
		}
	}
	for _, s := range in.Services {
		if len(s.Secrets) > 0 && !im.failed[s.Service] {
			im.a.Note("%s: its secrets are not in the file: %s", s.Service, strings.Join(s.Secrets, ", "))
		}
	}
	if first == nil {
		return nil
	}
	rest := "the rest is imported"
	if im.dryRun {
		rest = "the rest would be imported"
	}
	return conf.Errorf(conf.CodeOf(first), "%d of %d services and profiles cannot be imported and stay as they are; %s", n, len(in.Services)+len(in.Profiles), rest).
		WithHint("correct them in the file, and run it again: what is equal is not written again")
}

// isOwnFault reports whether an error is about one service or profile: the next one may
// be imported.
func isOwnFault(err error) bool {
	switch conf.CodeOf(err) {
	case conf.CodeMalformed, conf.CodeInvalid, conf.CodeTooLarge, conf.CodeNotFound, conf.CodeConflict, conf.CodeImmutable, conf.CodeUnsupported:
		return true
	default:
		return false
	}
}

// service stores the schema and the values of a service in one change, or with dryRun
// lets the agent compute that change.
func (im importer) service(ctx context.Context, s exportedService, profiles []exportedProfile) error {
	d := conf.Draft{Service: s.Service, Op: conf.OpSchema, Reason: im.reason, DryRun: im.dryRun}
	if len(s.Schema) > 0 {
		now, err := im.c.Schema(ctx, s.Service)
		if err = unlessMissing(err); err != nil {
			return err
		}
		if !values.Same(now.Schema, s.Schema) {
			d.Schema = s.Schema
		}
	}
	if len(s.Values) > 0 {
		now, err := im.c.Stored(ctx, s.Service, 0)
		expect := now.Metadata.Version
		if conf.CodeOf(err) == conf.CodeNotFound { // a deleted service continues its version numbers
			expect, err = im.c.LastVersion(ctx, s.Service)
		}
		if err != nil {
			return err
		}
		if !values.Same(now.Config, s.Values) {
			d.Op, d.Document, d.Expect = conf.OpPut, s.Values, &expect
		}
	}
	out, what, err := im.store(ctx, d)
	if err != nil {
		return err
	}
	if im.dryRun {
		what = "would be " + what
	}
	im.a.Say("%s: %s", s.Service, what)
	cli.NoteStale(im.a, slices.DeleteFunc(out.Stale, func(p conf.StaleProfile) bool { // the file has it
		return slices.ContainsFunc(profiles, func(e exportedProfile) bool { return e.Name == p.Profile })
	}))
	return nil
}

// store makes the change of one service, and says what became of it.
func (im importer) store(ctx context.Context, d conf.Draft) (out conf.Outcome, what string, err error) {
	switch {
	case d.Op == conf.OpSchema && d.Schema == nil:
		return out, "left as it is", nil
	case d.Op == conf.OpSchema && !d.DryRun:
		stored, err := im.c.PutSchema(ctx, d.Service, d.Schema, client.Change{Reason: d.Reason})
		return conf.Outcome{Stale: stored.Stale}, "given its schema", err
	case d.Op == conf.OpSchema:
		out, err = im.c.Do(ctx, d)
		return out, "given its schema", err
	}
	out, err = im.c.Do(ctx, d)
	what = fmt.Sprintf("version %d", out.Version)
	if d.DryRun {
		what = "changed"
	}
	if d.Schema != nil {
		what += ", with its schema"
	}
	return out, what, err
}

// profile stores a profile also when it is stale: it was so in the cluster that was exported.
func (im importer) profile(ctx context.Context, p exportedProfile, services []exportedService) error {
	now, err := im.c.Profile(ctx, p.Name)
	same := err == nil && now.Description == p.Description && maps.EqualFunc(now.Services, p.Services, values.Same)
	if err = unlessMissing(err); err != nil || same {
		return err
	}
	in := conf.Profile{Name: p.Name, Description: p.Description, Services: p.Services}
	var stale []conf.StaleProfile
	what := "saved"
	if im.dryRun {
		what = "would be saved"
		stale, err = im.staleValues(ctx, p, services)
	} else {
		stale, err = im.c.ImportProfile(ctx, in, client.Change{Reason: im.reason})
	}
	if err != nil {
		return err
	}
	im.a.Say("profile %s: %s", p.Name, what)
	cli.NoteStale(im.a, stale)
	return nil
}

// staleValues lists the values of a profile that their services would not accept after
// the import.
func (im importer) staleValues(ctx context.Context, p exportedProfile, services []exportedService) (out []conf.StaleProfile, err error) {
	for _, name := range conf.SortedKeys(p.Services) {
		d := conf.Draft{Service: name, Op: conf.OpPut, Document: p.Services[name], DryRun: true}
		for _, s := range services {
			if s.Service == name && len(s.Schema) > 0 && !im.failed[name] {
				d.Schema = s.Schema
			}
		}
		switch _, err := im.c.Do(ctx, d); {
		case err == nil:
		case !isOwnFault(err):
			return nil, err
		default:
			out = append(out, conf.StaleProfile{Profile: p.Name, Service: name, Error: err.Error()})
		}
	}
	return out, nil
}

// unlessMissing drops the error for what does not exist.
func unlessMissing(err error) error {
	if conf.CodeOf(err) == conf.CodeNotFound {
		return nil
	}
	return err
}
