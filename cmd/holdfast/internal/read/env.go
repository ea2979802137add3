package read

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
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
these variables added to its environment. Keys are in upper case, dots become _.`,
		Example: `  holdfast env stt-worker > stt-worker.env
  eval "$(holdfast env stt-worker --prefix STT_)"
  holdfast env stt-worker -- python -m stt_worker
  docker run --env-file <(holdfast env stt-worker --format docker) stt-worker`,
		ValidArgsFunction: a.CompleteService,
	}
	f := cmd.Flags()
	f.StringVar(&prefix, "prefix", "", "put this before each name")
	f.StringVar(&format, "format", "sh", "sh (also for most .env readers) or docker")
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
	vars, err := parseShell(text)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return conf.Errorf(conf.CodeUsage, "cannot run %s: %w", command[0], err)
	}
	env := os.Environ()
	kept := env[:0]
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if _, replaced := vars[name]; !replaced {
			kept = append(kept, e)
		}
	}
	for _, name := range conf.SortedKeys(vars) {
		kept = append(kept, name+"="+vars[name])
	}
	return fmt.Errorf("running %s: %w", path, syscall.Exec(path, command, kept))
}

// parseShell reads NAME=word lines with the quoting of POSIX sh, and comments. It
// expands nothing: the agent quotes whatever a shell would.
func parseShell(text string) (map[string]string, error) {
	vars := map[string]string{}
	for text != "" {
		if text[0] == '#' || text[0] == '\n' {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		name, rest, ok := strings.Cut(text, "=")
		if !ok || strings.ContainsAny(name, " \t\n'\"\\") {
			return nil, conf.Errorf(conf.CodeInternal, "the agent's answer is not a .env file")
		}
		value, after, err := shellWord(rest)
		if err != nil {
			return nil, err
		}
		vars[name], text = value, after
	}
	return vars, nil
}

// shellWord reads one word up to the end of its line.
func shellWord(s string) (word, rest string, err error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == 0 && c == '\n':
			return b.String(), s[i+1:], nil
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			if quote == '"' && !strings.ContainsRune("\\\"$`\n", rune(s[i])) {
				b.WriteByte('\\')
			}
			if s[i] != '\n' {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", conf.Errorf(conf.CodeInternal, "the agent's answer is not a .env file: a quote is not closed")
	}
	return b.String(), "", nil
}
