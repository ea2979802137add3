package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// needs checks positional arguments by their names as the usage line shows them:
// SERVICE is needed, [KEY] is not, KEY... takes one or more.
func needs(names ...string) cobra.PositionalArgs {
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
			return usageError(cmd, "%s needs %s", cmd.CommandPath(), strings.TrimSuffix(names[len(args)], "..."))
		}
		if most >= 0 && len(args) > most {
			return usageError(cmd, "%s does not know what to do with %q", cmd.CommandPath(), args[most])
		}
		return nil
	}
}

// parseVersion reads a version number from an argument.
func parseVersion(cmd *cobra.Command, text string) (uint64, error) {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || v == 0 {
		return 0, usageError(cmd, "bad version %q: versions are numbers from 1", text)
	}
	return v, nil
}

// readDocument reads a JSON object from a file, or from stdin for "-", and checks
// it as strictly as the agent will.
func (a *app) readDocument(name string, limit int) ([]byte, error) {
	data, err := a.readFile(name, limit)
	if err != nil {
		return nil, err
	}
	if _, err := conf.ParseObject(data, limit); err != nil {
		if e, ok := errors.AsType[*conf.Error](err); ok {
			c := *e
			c.Message = display(name) + ": " + c.Message
			return nil, &c
		}
		return nil, err
	}
	return data, nil
}

func (a *app) readFile(name string, limit int) ([]byte, error) {
	r := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			if pe, ok := errors.AsType[*fs.PathError](err); ok {
				err = pe.Err
			}
			return nil, conf.Errorf(conf.CodeUsage, "cannot read %s: %w", name, err).WithHint("name a readable file, or - for standard input")
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", display(name), err)
	}
	if len(data) > limit {
		return nil, conf.Errorf(conf.CodeTooLarge, "%s is over the limit of %d bytes", display(name), limit)
	}
	return data, nil
}

func display(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}
