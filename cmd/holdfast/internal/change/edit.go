package change

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Edit returns the command holdfast edit.
func Edit(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "edit SERVICE",
		Short: "Change the configuration of a service in your editor",
		Long: `Open the configuration of a service, defaults filled in, as JSON in $VISUAL or
$EDITOR. What you change is stored; what you leave as it is stays a default; a key
that you remove returns to its default. Secrets are not shown.

When the document is rejected, the errors are shown and the editor opens again. When
the configuration changed in the meantime, it opens with your changes applied to the
new version.
Without a terminal the command fails instead.`,
		Example: `  EDITOR=nano holdfast edit stt-worker --reason "tuning for the kitchen"`,
		Args:    cli.Needs("SERVICE"), ValidArgsFunction: a.CompleteService,
	}
	cli.ReasonFlag(cmd, &reason)
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		editor, err := editorOf(a)
		if err != nil {
			return err
		}
		e := editing{a: a, c: c, service: args[0], editor: editor, reason: reason}
		return e.run(ctx)
	})
	return cmd
}

// editorOf finds the user's editor: a command of the shell, as git takes it.
func editorOf(a *cli.App) (string, error) {
	for _, name := range []string{"VISUAL", "EDITOR"} {
		if v, ok := a.LookupEnv(name); ok && v != "" {
			return v, nil
		}
	}
	if cli.IsTerminal(a.In) {
		if vi, err := exec.LookPath("vi"); err == nil {
			return vi, nil
		}
	}
	return "", conf.Errorf(conf.CodeUsage, "no editor is set").WithHint("set VISUAL or EDITOR, such as EDITOR=nano")
}

// editing is one run of "edit".
type editing struct {
	a       *cli.App
	c       *client.Client
	service string
	editor  string
	reason  string

	version uint64         // of the documents below
	base    map[string]any // the effective document that the user was shown
	stored  map[string]any // the stored values under it
}

func (e *editing) run(ctx context.Context) error {
	if err := e.read(ctx); err != nil {
		return err
	}
	text, err := cli.JSON(e.base, "  ")
	if err != nil {
		return err
	}
	original := text
	for {
		if text, err = e.open(ctx, text); err != nil {
			return err
		}
		if bytes.Equal(bytes.TrimSpace(text), bytes.TrimSpace(original)) {
			e.a.Note("no changes were made")
			if e.a.AsJSON() {
				return e.a.PrintJSON(cli.Change{Service: e.service, Version: e.version})
			}
			return nil
		}
		edited, err := conf.ParseObject(text, conf.MaxDocument)
		if err == nil {
			err = e.write(ctx, edited)
		}
		if err == nil || !e.again(ctx, err) {
			return err
		}
		if conf.CodeOf(err) != conf.CodeConflict {
			continue
		}
		if text, original, err = e.rebase(ctx, edited); err != nil {
			return err
		}
	}
}

// read gets the effective document and the stored values of one version. A
// service that is not configured yet starts from the defaults of its schema.
func (e *editing) read(ctx context.Context) error {
	for {
		doc, err := e.c.Service(ctx, e.service)
		if conf.CodeOf(err) == conf.CodeNotFound {
			return e.begin(ctx, err)
		}
		if err != nil {
			return err
		}
		stored, err := e.c.Stored(ctx, e.service, 0)
		if err != nil {
			return err
		}
		if stored.Metadata.Version != doc.Metadata.Version {
			continue // a write came between the two
		}
		e.version = doc.Metadata.Version
		if e.base, err = conf.ParseObject(doc.Config, 2*conf.MaxDocument); err != nil {
			return err
		}
		e.stored, err = conf.ParseObject(stored.Config, 2*conf.MaxDocument)
		return err
	}
}

// begin is read for a service without a document; missing is the error that said so.
func (e *editing) begin(ctx context.Context, missing error) error {
	list, err := e.c.Services(ctx)
	if err != nil {
		return err
	}
	info, err := e.c.Schema(ctx, e.service)
	if err != nil {
		return missing
	}
	for _, s := range list {
		if s.Service == e.service {
			e.version = s.Version
		}
	}
	e.base, e.stored = map[string]any{}, map[string]any{}
	for _, f := range info.Fields {
		if len(f.Default) == 0 || f.IsSecret {
			continue
		}
		v, err := conf.ParseJSON(f.Default, conf.MaxDocument)
		if err != nil {
			return err
		}
		conf.Merge(e.base, conf.FieldPath(f).Nest(v))
	}
	return nil
}

// open lets the user edit text in a temporary file of mode 0600.
func (e *editing) open(ctx context.Context, text []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "holdfast-edit-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, e.service+".json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", e.editor+` "$@"`, "sh", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.a.In, e.a.Err, e.a.Err
	if cli.IsTerminal(e.a.Out) {
		cmd.Stdout = e.a.Out
	}
	if err := cmd.Run(); err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "the editor failed, nothing was changed: %w", err).WithHint("check VISUAL and EDITOR")
	}
	return os.ReadFile(path)
}

// write stores what the user changed.
func (e *editing) write(ctx context.Context, edited map[string]any) error {
	doc, err := values.Compact(overlay(e.stored, e.base, edited))
	if err != nil {
		return err
	}
	return e.a.PrintChange(e.c.Do(ctx, conf.Draft{Service: e.service, Op: conf.OpPut, Document: doc, Expect: &e.version, Reason: e.reason}))
}

// again shows why the document was rejected, and asks whether to edit it again.
func (e *editing) again(ctx context.Context, err error) bool {
	if !cli.IsTerminal(e.a.In) {
		return false
	}
	switch conf.CodeOf(err) {
	case conf.CodeMalformed, conf.CodeInvalid, conf.CodeTooLarge, conf.CodeConflict, conf.CodeImmutable, conf.CodeUnsupported:
	default:
		return false
	}
	cli.Report(e.a.Err, err)
	fmt.Fprint(e.a.Err, "Press Enter to edit again, Ctrl-C to cancel. ")
	_, err = e.a.ReadLine(ctx)
	return err == nil
}

// rebase applies what the user changed to the current document.
func (e *editing) rebase(ctx context.Context, edited map[string]any) (text, original []byte, err error) {
	before := e.base
	if err := e.read(ctx); err != nil {
		return nil, nil, err
	}
	if original, err = cli.JSON(e.base, "  "); err != nil {
		return nil, nil, err
	}
	text, err = cli.JSON(overlay(e.base, before, edited), "  ")
	return text, original, err
}

// overlay applies the changes between base and edited to values. A member that did
// not change stays as it is in values, or stays absent.
func overlay(values, base, edited map[string]any) map[string]any {
	out := maps.Clone(values)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range edited {
		old, had := base[k]
		if had && reflect.DeepEqual(old, v) {
			continue
		}
		sub, nested := v.(map[string]any)
		oldSub, wasNested := old.(map[string]any)
		if nested && wasNested {
			under, _ := values[k].(map[string]any)
			out[k] = overlay(under, oldSub, sub)
			continue
		}
		out[k] = v
	}
	for k := range base {
		if _, kept := edited[k]; !kept {
			delete(out, k)
		}
	}
	return out
}
