package gitops

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxPlan is the size of a plan that is read.
const maxPlan = 256 << 20

// flags are those that plan and apply share.
type flags struct {
	dir           string
	prune, resend bool
}

func (f *flags) add(cmd *cobra.Command) {
	dirFlag(cmd, &f.dir)
	cmd.Flags().BoolVar(&f.prune, "prune", false, "delete the services and profiles that have no file")
	cmd.Flags().BoolVar(&f.resend, "resend-secrets", false, "set the secrets from the environment also where one is set")
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVarP(dir, "file", "f", ".", "the `DIR` with the folders services, schemas and profiles")
	_ = cmd.MarkFlagDirname("file")
}

// Plan returns the command holdfast plan.
func Plan(a *cli.App) *cobra.Command {
	var f flags
	var exitCode bool
	var outFile string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a directory of files would change",
		Long: `Compare a directory of files, usually a git repository, with the cluster, and show what
holdfast apply would change. The agent computes each change, so a value that it would
reject is found here. Nothing is written.

With --exit-code the exit code is 11 when there are changes, so that a job can tell that
the cluster has drifted from the files. --out keeps the plan: apply --plan then does what
was shown, or nothing.`,
		Example: `  holdfast plan -f config
  holdfast plan -f config --exit-code
  holdfast plan -f config --out plan.json`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 11 when there are changes")
	cmd.Flags().StringVar(&outFile, "out", "", "write the plan to `FILE`, for apply --plan")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, _, err := f.plan(cmd.Context(), a, conf.RoleRead, false)
		if err != nil {
			return err
		}
		if outFile != "" {
			text, err := cli.JSON(p, "  ")
			if err != nil {
				return err
			}
			if err := os.WriteFile(outFile, text, 0o600); err != nil {
				return conf.Errorf(conf.CodeUsage, "write the plan: %w", err)
			}
		}
		if a.AsJSON() {
			err = a.PrintJSON(p)
		} else {
			show(a, p, f.dir)
			a.Say("%s", sum(p))
		}
		if err == nil && exitCode && !p.empty() {
			return cli.QuietExit(cli.ExitPending)
		}
		return err
	}
	return cmd
}

func (f *flags) plan(ctx context.Context, a *cli.App, role conf.Role, forApply bool) (*plan, *client.Client, error) {
	dir, err := read(f.dir, false)
	if err != nil {
		return nil, nil, err
	}
	c, err := a.Admin(role)
	if err != nil {
		return nil, nil, err
	}
	p, err := (&planner{a: a, c: c, dir: dir, prune: f.prune, resend: f.resend, forApply: forApply}).run(ctx)
	return p, c, err
}

// Apply returns the command holdfast apply.
func Apply(a *cli.App) *cobra.Command {
	var f flags
	var planFile, reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the cluster what a directory of files says",
		Long: `Show what holdfast plan shows, ask, and make it so: for each service one change with its
schema and its values together, which is checked, signed and recorded as any other. What
is equal is not written, so that apply can be repeated, also after an interruption.

A change that somebody else makes meanwhile is not overwritten: that service is named, and
the exit code is 4. With --plan FILE this holds since holdfast plan --out wrote the file:
apply does what was shown then, or nothing.

What has no file stays, unless --prune deletes it. A secret in the files is the name of a
variable (env:VARIABLE), taken from the environment of apply when it is not set, or
"stored": set by hand.`,
		Example: `  holdfast apply -f config
  holdfast apply -f config --yes --reason "$(git log -1 --format=%s)"
  holdfast apply -f config --plan plan.json --yes`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	cli.ReasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&planFile, "plan", "", "do what the plan in `FILE` shows, or nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var seen *plan
		if planFile != "" {
			seen = &plan{}
			data, err := a.ReadFile(planFile, maxPlan)
			if err == nil {
				err = conf.DecodeStrictDepth(data, maxPlan, conf.MaxSchemaDepth+8, seen)
			}
			if err == nil && (seen.Format != planFormat || seen.Version != planVersion) {
				err = conf.Errorf(conf.CodeUnsupported, "%s is not a plan that this build supports", planFile).WithHint("holdfast plan --out makes one")
			}
			if err != nil {
				return err
			}
			f.prune = seen.Prune
		}
		p, c, err := f.plan(cmd.Context(), a, conf.RoleWrite, true)
		if err != nil {
			return err
		}
		if seen != nil {
			if err := seen.allows(p); err != nil {
				return err
			}
		}
		out := *a
		if a.AsJSON() {
			out.Out = a.Err // the result alone goes to the standard output
		}
		show(&out, p, f.dir)
		out.Say("%s", sum(p))
		if !p.empty() && !yes && seen == nil && !a.Confirm(cmd.Context(), "apply this?") {
			return conf.Errorf(conf.CodeUsage, "nothing was changed").WithHint("--yes applies without a question")
		}
		reason = cmp.Or(reason, "applied from files")
		return apply(cmd.Context(), a, c, p, reason)
	}
	return cmd
}

// Pull returns the command holdfast pull.
func Pull(a *cli.App) *cobra.Command {
	var dir string
	var prune bool
	cmd := &cobra.Command{
		Use:   "pull",
		Short: "Write the cluster's state into a directory of files",
		Long: `Write the stored values and the schema of every service, and all profiles, into a
directory, for holdfast plan and apply. A file that says the same already is not touched,
so that its comments stay. Values of secrets are not read: a secret that is set becomes
"stored", unless the file names a variable for it.

With --prune the files of services and profiles that do not exist are removed.`,
		Example: `  holdfast pull -f config
  git -C config diff`,
		Args: cobra.NoArgs,
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&prune, "prune", false, "remove the files of services and profiles that do not exist")
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // no secret is in it
			return conf.Errorf(conf.CodeUsage, "make the directory: %w", err)
		}
		d, err := read(dir, true)
		if err != nil {
			return err
		}
		w := &puller{a: a, c: c, dir: d, prune: prune}
		if err := w.run(ctx); err != nil {
			return err
		}
		return a.Print(w.result(), "%s", fmt.Sprintf("%s: %d written, %d removed, %d the same", dir, len(w.written), len(w.removed), w.same))
	})
	return cmd
}
