package run

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
)

// settingFlag makes one options.Setting a pflag.Value. It keeps the text only:
// options.Options.Resolve checks flags, variables and lines of the .env file alike.
type settingFlag struct {
	setting options.Setting
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

// Settings are the flags of an agent's settings, in the order and the groups of
// options.Settings, and what they resolve to.
type Settings struct {
	Options options.Options

	groups map[string]*pflag.FlagSet
}

// AddSettings gives cmd a flag for each setting, and a help that shows them by group.
func AddSettings(cmd *cobra.Command) *Settings { return addSettings(cmd, options.Defaults()) }

func addSettings(cmd *cobra.Command, defaults options.Options) *Settings {
	sf := &Settings{Options: defaults, groups: map[string]*pflag.FlagSet{}}
	for _, s := range options.Settings(&sf.Options) {
		group := sf.groups[s.Group]
		if group == nil {
			group = pflag.NewFlagSet(s.Group, pflag.ContinueOnError)
			group.SortFlags = false
			sf.groups[s.Group] = group
		}
		flag := group.VarPF(&settingFlag{setting: s, text: s.Get()}, s.Flag, "", fmt.Sprintf("%s [%s]", s.Usage, s.Env))
		if s.Bool {
			flag.NoOptDefVal = "true"
		}
		cmd.Flags().AddFlag(flag)
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		sf.usage(cmd.OutOrStderr(), cmd)
		return nil
	})
	return sf
}

// usage writes the usage of cmd with its flags by group.
func (sf *Settings) usage(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	for _, g := range options.Groups() {
		if fs := sf.groups[g]; fs != nil {
			fmt.Fprintf(w, "\n%s:\n%s", g, fs.FlagUsages())
		}
	}
	other := pflag.NewFlagSet("other", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, setting := f.Value.(*settingFlag); !setting {
			other.AddFlag(f)
		}
	})
	if other.HasAvailableFlags() {
		fmt.Fprintf(w, "\nOther:\n%s", other.FlagUsages())
	}
	fmt.Fprint(w, "\nEvery setting is a flag, an environment variable and a line of the .env file,\nwhich win in this order.\n")
}

// given returns the text of a flag that the user gave, for options.Options.Resolve.
func (sf *Settings) given(cmd *cobra.Command) func(string) (string, bool) {
	return func(name string) (string, bool) {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			return "", false
		}
		return f.Value.String(), true
	}
}

// Resolve fills the options. A --token without --join is an error: it would start
// a new cluster beside the one of the token, or is a misplaced API token.
func (sf *Settings) Resolve(cmd *cobra.Command, a *cli.App) error {
	if err := sf.Options.Resolve(sf.given(cmd), a.LookupEnv); err != nil {
		return err
	}
	return sf.check(cmd, a)
}

// ResolveDamaged is Resolve that accepts a damaged .env file, and returns the damage.
func (sf *Settings) ResolveDamaged(cmd *cobra.Command, a *cli.App) (damage, err error) {
	if damage, err = sf.Options.ResolveDamaged(sf.given(cmd), a.LookupEnv); err != nil {
		return nil, err
	}
	return damage, sf.check(cmd, a)
}

func (sf *Settings) check(cmd *cobra.Command, a *cli.App) error {
	sf.Options.Version = a.Build().Version
	if sf.Options.Join == "" && (cmd.Flags().Changed("token") || cmd.Flags().Changed("token-file")) {
		return cli.UsageError(cmd, "a join token needs --join, the address of an agent of its cluster").
			WithHint("API tokens are set with CONFIG_API_TOKENS")
	}
	return nil
}
