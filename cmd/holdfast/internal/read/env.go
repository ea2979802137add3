package read

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/envfile"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Env returns the command holdfast env.
func Env(a *cli.App) *cobra.Command {
	var prefix, format string
	var secrets bool
	cmd := &cobra.Command{
		Use:   "env SERVICE [-- COMMAND...]",
		Short: "Print a configuration as environment variables, or run a command with them",
		Long: `Print the configuration of a service as lines of a .env file, or run a command with
these variables added to its environment. Keys are in upper case, dots become _.

With a COMMAND it is holdfast exec --on-change ignore without a process between: the
command takes the place of this one, and no change reaches it.`,
		Example: `  holdfast env stt-worker > stt-worker.env
  eval "$(holdfast env stt-worker --prefix STT_)"
  holdfast env stt-worker -- python -m stt_worker
  docker run --env-file <(holdfast env stt-worker --format docker) stt-worker`,
		ValidArgsFunction: a.CompleteService,
	}
	f := cmd.Flags()
	f.StringVar(&prefix, "prefix", "", "put this before each name")
	f.StringVar(&format, "format", "sh", "sh (also for most .env readers), docker, node, php, or json")
	f.BoolVar(&secrets, "secrets", false, "include secrets; needs the agent's local-token file")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if n := cmd.ArgsLenAtDash(); n >= 0 {
			if n == 1 && len(args) == 1 {
				return cli.UsageError(cmd, "no command after --")
			}
			args = args[:n]
		}
		return cli.Needs("SERVICE")(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.Local(secrets)
		if err != nil {
			return err
		}
		run := cmd.ArgsLenAtDash() >= 0
		if run {
			format = "sh"
		}
		query := url.Values{"format": {format}}
		if prefix != "" {
			query.Set("prefix", prefix)
		}
		text, err := c.Env(cmd.Context(), args[0], query)
		if err != nil {
			return err
		}
		if run {
			return execWith(text, args[1:])
		}
		_, err = fmt.Fprint(a.Out, text)
		return err
	}
	return cmd
}

// execWith replaces this process by a command that has the variables of text.
func execWith(text string, command []string) error {
	vars, err := envfile.Parse(text)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return conf.Errorf(conf.CodeUsage, "cannot run %s: %w", command[0], err)
	}
	return fmt.Errorf("running %s: %w", path, syscall.Exec(path, command, envfile.Merge(os.Environ(), vars)))
}
