package migrate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/foreign"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Flags are what holdfast import takes for the files of other programs.
type Flags struct {
	cmd            *cobra.Command
	from, service  string
	choice         foreign.Choice
	infer, yes     bool
	take, withhold bool
}

// AddFlags adds them to the command.
func AddFlags(cmd *cobra.Command) *Flags {
	f := &Flags{cmd: cmd}
	s := cmd.Flags()
	s.StringVar(&f.from, "from", "", "read files of other programs, in this `FORMAT`: "+strings.Join(foreign.Formats(), ", "))
	s.StringVar(&f.service, "service", "", "with --from: the `SERVICE` that gets the values")
	s.BoolVar(&f.infer, "infer-schema", false, "with --from: make the schema from the values")
	s.BoolVar(&f.take, "secrets-from-file", false, "with --from: take the values of secrets from the files, without asking")
	s.BoolVar(&f.withhold, "without-secrets", false, "with --from: leave the values of secrets out; holdfast secret set sets them")
	s.StringSliceVar(&f.choice.Secret, "secret", nil, "with --infer-schema: these `KEYS` are secrets")
	s.StringSliceVar(&f.choice.Plain, "plain", nil, "with --infer-schema: these `KEYS` are no secrets")
	s.BoolVar(&f.yes, "yes", false, "with --from: write without asking")
	cli.CompleteFlag(cmd, "from", foreign.Formats()...)
	return f
}

// Given reports whether files of other programs are meant.
func (f *Flags) Given() bool { return f.from != "" }

// Check rejects flags that do not belong together.
func (f *Flags) Check() error {
	if f.from == "" {
		for _, name := range []string{"service", "infer-schema", "secrets-from-file", "without-secrets", "secret", "plain", "yes"} {
			if f.cmd.Flags().Changed(name) {
				return cli.UsageError(f.cmd, "--%s goes with --from", name)
			}
		}
		return nil
	}
	if f.service == "" {
		return cli.UsageError(f.cmd, "--from needs --service SERVICE: which one gets the values")
	}
	if err := conf.CheckService(f.service); err != nil {
		return err
	}
	if f.take && f.withhold {
		return cli.UsageError(f.cmd, "--secrets-from-file and --without-secrets exclude each other")
	}
	if !f.infer && len(f.choice.Secret)+len(f.choice.Plain) > 0 {
		return cli.UsageError(f.cmd, "--secret and --plain go with --infer-schema: else the schema says which fields are secrets")
	}
	return nil
}

// Run imports files into one service, or with dryRun shows what that would change.
func (f *Flags) Run(ctx context.Context, a *cli.App, paths []string, reason string, dryRun bool) error {
	var files []foreign.File
	var names []string
	for _, path := range paths {
		data, err := a.ReadFile(path, 4*conf.MaxDocument)
		if err != nil {
			return err
		}
		name := cli.FileName(path)
		if path != "-" {
			name = filepath.Base(path)
		}
		files, names = append(files, foreign.File{Name: name, Data: data}), append(names, name)
	}
	c, err := a.Admin(conf.RoleWrite)
	if err != nil {
		return err
	}
	m := migration{Flags: f, a: a, c: c, files: strings.Join(names, ", "), dryRun: dryRun}
	if err := m.read(ctx, files); err != nil {
		return err
	}
	m.reason = cmp.Or(reason, "imported from "+m.files)
	if len(m.reason) > conf.MaxReason {
		m.reason = "imported from " + cli.Plural(len(files), "file")
	}
	return m.run(ctx)
}

// migration is one import.
type migration struct {
	*Flags
	a      *cli.App
	c      *client.Client
	files  string
	reason string
	dryRun bool

	present conf.ReadResponse // the effective document now; version 0 when there is none
	version uint64
	schema  json.RawMessage // now, or nil
	result  *foreign.Result
}

// read gets what the service is now, and what the files have.
func (m *migration) read(ctx context.Context, files []foreign.File) error {
	var err error
	if m.present, err = m.c.Service(ctx, m.service); err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return err
	}
	if m.version = m.present.Metadata.Version; err != nil {
		if m.version, err = m.c.LastVersion(ctx, m.service); err != nil {
			return err
		}
	}
	info, err := m.c.Schema(ctx, m.service)
	switch {
	case err == nil:
		m.schema = info.Schema
	case conf.CodeOf(err) != conf.CodeNotFound:
		return err
	case !m.infer:
		return conf.Errorf(conf.CodeNotFound, "%s has no schema yet", m.service).
			WithHint("--infer-schema makes one from the values; holdfast schema put %s FILE stores your own", m.service)
	}
	fields := info.Fields
	if m.infer {
		fields = nil
	}
	doc, err := foreign.Read(m.from, files, fields)
	if err != nil {
		return err
	}
	if m.infer {
		m.result, err = doc.Infer(m.choice)
	} else {
		m.result, err = doc.Apply(fields)
	}
	return err
}

func (m *migration) run(ctx context.Context) error {
	sent := m.draft(!m.withhold && m.take)
	sent.DryRun = true
	would, err := m.do(ctx, sent)
	if err != nil {
		return err
	}
	deltas, err := values.Compare(m.present.Config, would.Config)
	if err != nil {
		return err
	}
	deltas = m.mask(deltas)
	schemaChanges := m.result.Schema != nil && !values.Same(m.schema, sent.Schema)
	if !m.a.AsJSON() || !m.dryRun {
		m.show(deltas, schemaChanges)
	}
	if len(deltas) == 0 && !schemaChanges && len(m.withValue()) == 0 {
		m.a.Note("nothing would change")
		if m.a.AsJSON() {
			return m.a.PrintJSON(cli.Change{Service: m.service, Version: m.version})
		}
		return nil
	}
	if m.dryRun {
		return m.report(would, deltas, schemaChanges)
	}
	if err := m.askSecrets(ctx); err != nil {
		return err
	}
	if !m.yes && !m.a.Confirm(ctx, "Write this to "+m.service+"?") {
		if !cli.IsTerminal(m.a.In) {
			return cli.UsageError(m.cmd, "nothing was changed: without a terminal to ask at, it needs --yes")
		}
		m.a.Note("nothing was changed")
		return cli.QuietExit(cli.ExitError)
	}
	d := m.draft(true)
	d.Expect = &m.version
	out, err := m.do(ctx, d)
	if err != nil {
		return err
	}
	cli.NoteStale(m.a, out.Stale)
	with := ""
	if d.Schema != nil {
		with = ", with its schema"
	}
	if err := m.a.Print(cli.ChangeOf(out), "%s: version %d%s", m.service, out.Version, with); err != nil {
		return err
	}
	for _, s := range m.result.Secrets {
		if !s.HasValue() && !m.a.AsJSON() {
			m.a.Note("hint: %s", cli.Runnable(fmt.Sprintf("holdfast secret set %s %s sets this secret", m.service, s.Path.Key())))
		}
	}
	return nil
}

// draft is the change: the schema and the values, in one.
func (m *migration) draft(secrets bool) conf.Draft {
	d := conf.Draft{Service: m.service, Op: conf.OpPut, Reason: m.reason}
	doc := m.result.Values
	if secrets {
		doc = m.result.Document()
	}
	d.Document, _ = values.Compact(doc) // values of JSON only
	if m.result.Schema != nil {
		d.Schema, _ = values.Compact(m.result.Schema)
	}
	return d
}

func (m *migration) withValue() (out []foreign.Secret) {
	for _, s := range m.result.Secrets {
		if s.HasValue() && !m.withhold {
			out = append(out, s)
		}
	}
	return out
}

// do sends the change. An error about a secret, or about a value that may be one, is told
// without what the agent says of it.
func (m *migration) do(ctx context.Context, d conf.Draft) (conf.Outcome, error) {
	out, err := m.c.Do(ctx, d)
	e, ok := errors.AsType[*conf.Error](err)
	if !ok || len(e.Details) == 0 {
		return out, err
	}
	safe := *e
	safe.Details, safe.Err = nil, nil
	hides := false
	for _, f := range e.Details {
		if m.hides(conf.PlainKey(f.Key), nil) {
			f.Message, hides = "is not accepted; the reason may show the value, which may be a secret", true
		}
		safe.Details = append(safe.Details, f)
	}
	if hides {
		safe.Message = cli.Plural(len(e.Details), "value") + " of " + m.files + " not accepted for " + m.service
		return out, &safe
	}
	return out, err
}

// hides reports whether the value of a key may be a secret: of one that the files have, or
// of one that was stored before and looks like it.
func (m *migration) hides(key string, stored json.RawMessage) bool {
	below := func(p conf.Path) bool { return key == p.Key() || strings.HasPrefix(key, p.Key()+".") }
	if slices.ContainsFunc(m.result.Hidden, below) ||
		slices.ContainsFunc(m.result.Secrets, func(s foreign.Secret) bool { return below(s.Path) }) {
		return true
	}
	return stored != nil && !slices.Contains(m.choice.Plain, key) && foreign.LooksSecret(key, stored)
}

// mask hides the values that may be secrets.
func (m *migration) mask(deltas []values.Delta) []values.Delta {
	masked, _ := json.Marshal(conf.Masked) // a text
	for i, d := range deltas {
		if d.Old != nil && m.hides(d.Key, d.Old) {
			deltas[i].Old = masked
		}
		if d.New != nil && m.hides(d.Key, nil) {
			deltas[i].New = masked
		}
	}
	return deltas
}

// show writes what would change, for a person.
func (m *migration) show(deltas []values.Delta, schemaChanges bool) {
	a := m.a
	out := *a
	if a.AsJSON() {
		out.Out = a.Err // the result alone goes to the standard output
	}
	before := fmt.Sprintf("%s version %d", m.service, m.version)
	if m.present.Metadata.Version == 0 {
		before = m.service + " (not configured)"
	}
	out.Say("--- %s", before)
	out.Say("+++ %s", m.files)
	values.WriteDeltas(out.Out, deltas, out.Colors())
	for _, s := range m.result.Secrets {
		switch {
		case !s.HasValue():
			out.Say("  %s: a secret without a value", cli.Clean(s.Path.Key()))
		case m.withhold:
			out.Say("  %s: a secret, whose value is left out", cli.Clean(s.Path.Key()))
		default:
			out.Say("+ %s = %s", cli.Clean(s.Path.Key()), conf.Masked)
		}
	}
	if schemaChanges {
		what := "the schema is new"
		if m.schema != nil {
			what = "the schema is replaced"
		}
		out.Say("%s: %s", what, cli.Clean(summary(m.result.Schema)))
	}
	why := map[string][]string{}
	for _, s := range m.result.Secrets {
		if s.Why != "" {
			why[s.Why] = append(why[s.Why], s.Path.Key())
		}
	}
	for _, reason := range conf.SortedKeys(why) {
		a.Note("secret because of %s: %s", reason, cli.Clean(strings.Join(why[reason], ", ")))
	}
	for _, n := range m.result.Notes {
		a.Note("%s", cli.Clean(n))
	}
}

// report is the end of a dry run.
func (m *migration) report(would conf.Outcome, deltas []values.Delta, schemaChanges bool) error {
	if m.a.AsJSON() {
		secrets := []map[string]any{}
		for _, s := range m.result.Secrets {
			secrets = append(secrets, map[string]any{"key": s.Path.Key(), "has_value": s.HasValue(), "reason": s.Why})
		}
		out := map[string]any{
			"service": m.service, "version": m.version, "new_version": would.Version, "changes": deltas, "secrets": secrets, "notes": m.result.Notes,
		}
		if schemaChanges {
			out["schema"] = m.result.Schema
		}
		return m.a.PrintJSON(out)
	}
	cli.NoteStale(m.a, would.Stale)
	what := "would be changed"
	if schemaChanges {
		what += ", with its schema"
	}
	m.a.Say("%s: %s", m.service, what)
	if n := len(m.withValue()); n > 0 && !m.take {
		m.a.Note("the values of %s would be asked for; --secrets-from-file takes those of the files", cli.Plural(n, "secret"))
	}
	return nil
}

// askSecrets asks for the values of secrets, unless a flag says what to do.
func (m *migration) askSecrets(ctx context.Context) error {
	if m.withhold || m.take || len(m.result.Secrets) == 0 {
		if m.withhold {
			for i, s := range m.result.Secrets {
				m.result.Secrets[i] = s.WithText("")
			}
		}
		return nil
	}
	if !cli.IsTerminal(m.a.In) {
		if len(m.withValue()) == 0 {
			return nil
		}
		return cli.UsageError(m.cmd, "nothing was changed: there is no terminal to ask for the values of %s at", cli.Plural(len(m.withValue()), "secret")).
			WithHint("--secrets-from-file takes them from the files; --without-secrets leaves them out")
	}
	for i, s := range m.result.Secrets {
		question := "Enter leaves it unset"
		if s.HasValue() {
			question = "Enter takes the one in the file"
		}
		typed, err := m.a.ReadHidden(ctx, "Value of "+s.Path.Key()+" (not shown; "+question+"): ")
		if err != nil {
			return err
		}
		if typed != "" {
			m.result.Secrets[i] = s.WithText(typed)
		}
	}
	return nil
}

// summary is a schema in a few words.
func summary(schema map[string]any) string {
	n, secrets := map[string]int{}, 0
	var count func(s map[string]any)
	count = func(s map[string]any) {
		properties, _ := s["properties"].(map[string]any)
		for _, v := range properties {
			p, _ := v.(map[string]any)
			if p["properties"] != nil {
				count(p)
				continue
			}
			t, _ := p["type"].(string)
			if p["x-secret"] == true {
				secrets++
				continue
			}
			n[cmp.Or(t, "any type")]++
		}
	}
	count(schema)
	var parts []string
	for _, t := range conf.SortedKeys(n) {
		parts = append(parts, fmt.Sprintf("%d %s", n[t], t))
	}
	if secrets > 0 {
		parts = append(parts, cli.Plural(secrets, "secret"))
	}
	return strings.Join(parts, ", ")
}
