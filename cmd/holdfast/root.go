package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/change"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cluster"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/doors"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/gitops"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/model"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/ops"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/read"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/run"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/staged"
)

// groups are the groups of commands in the help, in this order, each a package. A
// new command is one file in its package and one name here.
var groups = []struct {
	title    string
	commands commands
}{
	{"Run an agent:", commands{run.Dev, run.Agent, run.Pause}},
	{"Read:", commands{read.Get, read.Env, read.Watch, read.List, read.Search, read.Explain, read.Instances}},
	{"Change:", commands{change.Set, change.Unset, change.Edit, change.Validate, change.Diff, staged.Rollout, change.Rollback, change.Delete, change.Secret}},
	{"Programs:", commands{doors.Exec, doors.Render, doors.Client}},
	{"Schemas and profiles:", commands{model.Schema, model.Profile}},
	{"Configuration in git:", commands{gitops.Plan, gitops.Apply, gitops.Pull}},
	{"The cluster:", commands{cluster.Cluster, cluster.Token, cluster.Keys}},
	{"Inspect and operate:", commands{
		ops.History, ops.Audit, ops.Health, ops.Ready, ops.Verify, ops.Backup, ops.Export, ops.Import, ops.Rebuild, ops.UI, ops.Version, ops.Man,
	}},
}

type commands = []func(*cli.App) *cobra.Command

// newRoot makes the command tree.
func newRoot(a *cli.App) *cobra.Command {
	root := cli.Group(&cobra.Command{
		Use:   "holdfast",
		Short: "Configuration that stays readable when everything else is down",
		Long: `Holdfast keeps the configuration of your services: validated, signed, versioned,
and served on localhost to a program in any language, even when the store behind
it is gone.`,
		Example: `  holdfast dev                                  run an agent to try things out
  holdfast get stt-worker                       read a service's configuration
  holdfast get stt-worker vad_threshold --raw   read one value
  holdfast set stt-worker vad_threshold=0.6     change it
  holdfast watch stt-worker                     see changes as they happen
  holdfast history stt-worker                   who changed what, and why`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, command := range g.commands {
			cmd := command(a)
			cmd.GroupID = g.title
			root.AddCommand(cmd)
		}
	}
	last := groups[len(groups)-1].title
	root.SetCompletionCommandGroupID(last)
	root.SetHelpCommandGroupID(last)
	a.AddTo(root)
	return root
}
