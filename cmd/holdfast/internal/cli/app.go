package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// App is one run of the command line: its streams, its environment, and the
// flags that every command has. It is used by one goroutine.
type App struct {
	In        io.Reader
	Out, Err  io.Writer
	LookupEnv func(string) (string, bool)
	Version   string   // of this binary, set by the linker; "" is taken from the build
	AtEnd     []func() // called when the command has ended and its error is reported

	adminURL, localURL, token string
	dataDir, envFile          string
	output                    outputFormat

	started bool             // the command itself runs: an error is not a usage error any more
	opts    *options.Options // resolved once, by Options
	envErr  error            // why the .env file could not be read
}

// AddTo gives root the flags of every command.
func (a *App) AddTo(root *cobra.Command) {
	f := root.PersistentFlags()
	f.VarP(&a.output, "output", "o", "how to print the result: table or json")
	f.StringVar(&a.adminURL, "admin-url", "", "admin API of the agent, a `URL` (default: from CONFIG_MANAGER_HOST and _PORT)")
	f.StringVar(&a.localURL, "local-url", "", "local API of the agent, a `URL` (default: from CONFIG_LOCAL_ADDR)")
	f.StringVar(&a.token, "token", "", "API `TOKEN`; others can see it in the process list: prefer CONFIG_API_TOKEN")
	f.StringVar(&a.dataDir, "data-dir", "", "`DIR` with the agent's files (default: CONFIG_DATA_DIR, else holdfast-data)")
	f.StringVar(&a.envFile, "env-file", "", "the agent's .env `FILE` (default: CONFIG_ENV_FILE, else .env in the data directory)")
	CompleteFlag(root, "output", outputFormats...)

	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
			return unknownCommand(cmd, args[0]) // the flag may be one of the command that was meant
		}
		return UsageError(cmd, "%s", err.Error())
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.ValidateFlagGroups(); err != nil { // cobra checks them later, which would not be a usage error
			return UsageError(cmd, "%s", err.Error())
		}
		a.started = true
		return nil
	}
}

// Run executes one command line, reports its error and returns its exit code.
func (a *App) Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started && conf.CodeOf(err) == conf.CodeInternal {
		err = UsageError(cmd, "%s", err.Error())
	}
	Report(a.Err, err)
	for _, f := range a.AtEnd {
		f()
	}
	return exitCode(err)
}

// runE is what cobra calls to run a command.
type runE = func(cmd *cobra.Command, args []string) error

// WithAdmin returns the RunE of a command that does all of its work with the
// admin API, by a token that has the role.
func (a *App) WithAdmin(role conf.Role, run func(ctx context.Context, c *client.Client, args []string) error) runE {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.Admin(role)
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, args)
	}
}

// Group makes cmd a command that only holds others. Alone it shows its help; it
// rejects a subcommand that it does not have, with suggestions.
func Group(cmd *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(sub...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
	return cmd
}

func unknownCommand(cmd *cobra.Command, name string) error {
	e := UsageError(cmd, "unknown command %q for %q", name, cmd.CommandPath())
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		e = e.WithHint("did you mean %s %s?", cmd.CommandPath(), cmp.Or(Nearest(name, s), s[0]))
	}
	return e
}

// outputFormat is the value of --output.
type outputFormat string

var outputFormats = []string{"table", "json"}

func (o *outputFormat) String() string { return string(*o) }
func (o *outputFormat) Type() string   { return "FORMAT" }

func (o *outputFormat) Set(s string) error {
	if !slices.Contains(outputFormats, s) {
		return fmt.Errorf("use one of %v", outputFormats)
	}
	*o = outputFormat(s)
	return nil
}
