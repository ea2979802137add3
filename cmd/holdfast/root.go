package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// The groups of commands in the help, in this order.
const (
	groupRun    = "run"
	groupRead   = "read"
	groupChange = "change"
	groupModel  = "model"
	groupAgents = "agents"
	groupOps    = "ops"
)

// newRoot makes the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
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
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.ValidateFlagGroups(); err != nil { // cobra does this later, when it looks like a failure
				return usageError(cmd, "%s", err.Error())
			}
			a.started = true
			return nil
		},
	}
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run an agent:"},
		&cobra.Group{ID: groupRead, Title: "Read:"},
		&cobra.Group{ID: groupChange, Title: "Change:"},
		&cobra.Group{ID: groupModel, Title: "Schemas and profiles:"},
		&cobra.Group{ID: groupAgents, Title: "The cluster:"},
		&cobra.Group{ID: groupOps, Title: "Inspect and operate:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, newDev(a), newAgent(a))
	add(groupRead, newGet(a), newEnv(a), newWatch(a), newList(a), newSearch(a), newExplain(a))
	add(groupChange, newSet(a), newUnset(a), newEdit(a), newValidate(a), newDiff(a), newRollback(a), newDelete(a), newSecret(a))
	add(groupModel, newSchema(a), newProfile(a))
	add(groupAgents, newCluster(a), newToken(a), newKeys(a))
	add(groupOps, newHistory(a), newAudit(a), newHealth(a), newReady(a), newVerify(a), newBackup(a), newExport(a), newImport(a), newRebuild(a), newVersion(a))
	root.SetCompletionCommandGroupID(groupOps)
	root.SetHelpCommandGroupID(groupOps)

	f := root.PersistentFlags()
	a.output = choice{allowed: []string{"table", "json"}}
	f.VarP(&a.output, "output", "o", "how to print the result: table or json")
	f.StringVar(&a.adminURL, "admin-url", "", "admin API of the agent, a `URL` (default: from CONFIG_MANAGER_HOST and _PORT)")
	f.StringVar(&a.localURL, "local-url", "", "local API of the agent, a `URL` (default: from CONFIG_LOCAL_ADDR)")
	f.StringVar(&a.token, "token", "", "API `TOKEN`; others can see it in the process list: prefer CONFIG_API_TOKEN")
	f.StringVar(&a.dataDir, "data-dir", "", "`DIR` with the agent's files (default: CONFIG_DATA_DIR, else holdfast-data)")
	f.StringVar(&a.envFile, "env-file", "", "the agent's .env `FILE` (default: CONFIG_ENV_FILE, else .env in the data directory)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))

	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, "%s", err.Error()) })
	dispatch(root)
	return root
}

// dispatch makes a command that only holds others show its help when it is
// called alone, and refuse a subcommand that it does not have, with suggestions.
func dispatch(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		e := usageError(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			like := nearest(args[0], s)
			if like == "" {
				like = s[0]
			}
			e = e.WithHint("did you mean %s %s?", cmd.CommandPath(), like)
		}
		return e
	}
	return cmd
}

// choice is a flag with a fixed set of values.
type choice struct {
	allowed []string
	value   string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "FORMAT" }

func (c *choice) Set(s string) error {
	for _, v := range c.allowed {
		if v == s {
			c.value = s
			return nil
		}
	}
	return fmt.Errorf("use one of %v", c.allowed)
}
