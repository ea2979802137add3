package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Needs checks positional arguments by their names as the usage line shows them:
// SERVICE is needed, [KEY] is not, KEY... takes one or more.
func Needs(names ...string) cobra.PositionalArgs {
	least, most := 0, len(names)
	for _, n := range names {
		if !strings.HasPrefix(n, "[") {
			least++
		}
		if strings.HasSuffix(strings.Trim(n, "[]"), "...") {
			most = -1
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return UsageError(cmd, "%s needs %s", cmd.CommandPath(), strings.TrimSuffix(names[len(args)], "..."))
		}
		if most >= 0 && len(args) > most {
			return UsageError(cmd, "%s does not know what to do with %q", cmd.CommandPath(), args[most])
		}
		return nil
	}
}

// Arg returns an argument, "" when it was not given.
func Arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// ParseTime reads the time of a flag.
func ParseTime(cmd *cobra.Command, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, UsageError(cmd, "%q is not a time", text).WithHint("write it as 2026-03-01T12:00:00Z or 2026-03-01T13:00:00+01:00")
	}
	return t, nil
}

// ReasonFlag adds --reason, the text that the history keeps.
func ReasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "`TEXT` for the history: why")
}

// PageFlags adds --limit and --offset, of a list that comes in pages.
func PageFlags(cmd *cobra.Command, limit, offset *int) {
	cmd.Flags().IntVar(limit, "limit", 100, "at most this many, up to 1000")
	cmd.Flags().IntVar(offset, "offset", 0, "leave out this many first")
}

// ReadDocument reads a JSON object from a file, or from standard input for "-",
// and checks it as strictly as the agent does.
func (a *App) ReadDocument(name string, limit int) ([]byte, error) {
	return readJSON(a, name, limit, func(data []byte) error {
		_, err := conf.ParseObject(data, limit)
		return err
	})
}

// ReadSchema is ReadDocument for a JSON Schema.
func ReadSchema(a *App, name string) ([]byte, error) {
	return readJSON(a, name, conf.MaxSchema, func(data []byte) error {
		_, err := conf.ParseSchema(data)
		return err
	})
}

func readJSON(a *App, name string, limit int, parse func([]byte) error) ([]byte, error) {
	data, err := a.ReadFile(name, limit)
	if err != nil {
		return nil, err
	}
	if err := parse(data); err != nil {
		if e, ok := errors.AsType[*conf.Error](err); ok {
			c := *e
			c.Message = FileName(name) + ": " + c.Message
			return nil, &c
		}
		return nil, err
	}
	return data, nil
}

// ReadFile reads a file, or standard input for "-".
func (a *App) ReadFile(name string, limit int) ([]byte, error) {
	r, err := a.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", FileName(name), err)
	}
	if len(data) > limit {
		return nil, conf.Errorf(conf.CodeTooLarge, "%s is over the limit of %d bytes", FileName(name), limit)
	}
	return data, nil
}

// Open opens a file, or standard input for "-".
func (a *App) Open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(a.In), nil
	}
	f, err := os.Open(name)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, conf.Errorf(conf.CodeUsage, "cannot read %s: %w", name, err).WithHint("name a readable file, or - for standard input")
	}
	return f, nil
}

// FileName is the name of a file for a person.
func FileName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}
