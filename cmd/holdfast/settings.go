package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-config/holdfast/agent"
)

// settingFlag makes one agent.Setting a pflag.Value. It keeps the text only: the
// agent's own Resolve reads it, so that a flag, a variable and a line of the
// .env file are checked by the same code and refused in the same words.
type settingFlag struct {
	setting agent.Setting
	text    string
}

func (f *settingFlag) String() string     { return f.text }
func (f *settingFlag) Set(s string) error { f.text = s; return nil }

func (f *settingFlag) Type() string {
	if f.setting.Bool {
		return "bool"
	}
	return strings.ToUpper(f.setting.Flag[strings.LastIndexByte(f.setting.Flag, '-')+1:])
}

// settingFlags is the flags of an agent, in the order and the groups of agent.Settings.
type settingFlags struct {
	values map[string]*settingFlag
	groups map[string]*pflag.FlagSet
}

// addSettings gives cmd a flag for each setting of o, and a help that shows them
// by group.
func addSettings(cmd *cobra.Command, o *agent.Options) *settingFlags {
	sf := &settingFlags{values: map[string]*settingFlag{}, groups: map[string]*pflag.FlagSet{}}
	for _, s := range agent.Settings(o) {
		v := &settingFlag{setting: s, text: s.Get()}
		usage := fmt.Sprintf("%s [%s]", s.Usage, s.Env)
		group := sf.groups[s.Group]
		if group == nil {
			group = pflag.NewFlagSet(s.Group, pflag.ContinueOnError)
			group.SortFlags = false
			sf.groups[s.Group] = group
		}
		flag := group.VarPF(v, s.Flag, "", usage)
		if s.Bool {
			flag.NoOptDefVal = "true"
		}
		cmd.Flags().AddFlag(flag)
		sf.values[s.Flag] = v
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		sf.usage(cmd.OutOrStderr(), cmd)
		return nil
	})
	return sf
}

// usage writes the usage of cmd with its flags by group.
func (sf *settingFlags) usage(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	known := map[string]bool{}
	for _, g := range agent.Groups() {
		if fs := sf.groups[g]; fs != nil {
			fmt.Fprintf(w, "\n%s:\n%s", g, fs.FlagUsages())
			fs.VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		}
	}
	other := pflag.NewFlagSet("other", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !known[f.Name] {
			other.AddFlag(f)
		}
	})
	if other.HasAvailableFlags() {
		fmt.Fprintf(w, "\nOther:\n%s", other.FlagUsages())
	}
	fmt.Fprint(w, "\nEvery setting is a flag, an environment variable and a line of the .env file,\nwhich win in this order.\n")
}

// given answers agent.Options.Resolve: the text of a flag that the user gave.
func (sf *settingFlags) given(cmd *cobra.Command) func(string) (string, bool) {
	return func(name string) (string, bool) {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			return "", false
		}
		return sf.values[name].text, true
	}
}

// resolve fills o. A --token alone would start a new cluster beside the one that
// it is a token of, or is an API token in the wrong place.
func (sf *settingFlags) resolve(cmd *cobra.Command, a *app, o *agent.Options) error {
	if err := o.Resolve(sf.given(cmd), a.lookupEnv); err != nil {
		return err
	}
	if o.Join == "" && (cmd.Flags().Changed("token") || cmd.Flags().Changed("token-file")) {
		return usageError(cmd, "a join token needs --join, the address of an agent of its cluster").
			WithHint("API tokens are set with CONFIG_API_TOKENS")
	}
	return nil
}
