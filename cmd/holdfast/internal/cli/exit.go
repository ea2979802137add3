package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The exit codes. They are a contract with scripts; docs/cli.md lists them.
const (
	ExitOK       = 0
	ExitError    = 1
	ExitUsage    = 2
	ExitNotFound = 3
	ExitConflict = 4
	ExitDenied   = 5
	ExitReadOnly = 6
	ExitInvalid  = 7
	ExitStale    = 8
	ExitReverted = 9  // a rollout was rolled back, or an instance rejected a version
	ExitPaused   = 10 // a rollout is paused
	ExitPending  = 11 // plan --exit-code: the files would change something
)

// ExitCodes maps every code of conf. The exit code is 6 only when
// certainly nothing was written, so that a script can repeat the command: an
// unknown outcome is 1.
var ExitCodes = map[conf.Code]int{
	conf.CodeMalformed:       ExitInvalid,
	conf.CodeInvalid:         ExitInvalid,
	conf.CodeTooLarge:        ExitInvalid,
	conf.CodeUnauthenticated: ExitDenied,
	conf.CodeDenied:          ExitDenied,
	conf.CodeNotFound:        ExitNotFound,
	conf.CodeMethod:          ExitError,
	conf.CodeConflict:        ExitConflict,
	conf.CodeRolloutActive:   ExitConflict,
	conf.CodeImmutable:       ExitDenied,
	conf.CodeUnsupported:     ExitError,
	conf.CodeReadOnly:        ExitReadOnly,
	conf.CodeNoQuorum:        ExitReadOnly,
	conf.CodeOutcomeUnknown:  ExitError,
	conf.CodeStale:           ExitStale,
	conf.CodeRateLimited:     ExitError,
	conf.CodeStorageFull:     ExitError,
	conf.CodeCorrupt:         ExitError,
	conf.CodeLocked:          ExitError,
	conf.CodeSchemaMismatch:  ExitError,
	conf.CodeUsage:           ExitUsage,
	conf.CodeInternal:        ExitError,
}

// QuietExit ends a command with a code and without a message: the command has
// printed its result.
type QuietExit int

// Error is for callers that print it anyway.
func (q QuietExit) Error() string { return fmt.Sprintf("exit status %d", int(q)) }

// exitCode is the exit code for what a command returned.
func exitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if q, ok := errors.AsType[QuietExit](err); ok {
		return int(q)
	}
	if code, ok := ExitCodes[conf.CodeOf(err)]; ok {
		return code
	}
	return ExitError
}

// UsageError is a mistake in how cmd was called.
func UsageError(cmd *cobra.Command, format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeUsage, format, args...).WithHint("%s --help shows how to call it", cmd.CommandPath())
}

// Report writes err for a person: what happened, each detail on a line, the hint.
func Report(w io.Writer, err error) {
	if _, quiet := errors.AsType[QuietExit](err); quiet || err == nil {
		return
	}
	message := err.Error()
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	fmt.Fprintf(w, "holdfast: %s\n", Clean(strings.TrimSpace(message)))
	if e, ok := errors.AsType[*conf.Error](err); ok {
		for _, d := range e.Details {
			fmt.Fprintf(w, "  %s: %s\n", Clean(d.Key), Clean(d.Message))
		}
		if e.Code == conf.CodeConflict && e.Current > 0 && !strings.Contains(message, fmt.Sprint(e.Current)) {
			fmt.Fprintf(w, "  current version: %d\n", e.Current)
		}
	}
	if hint := conf.HintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", Clean(Runnable(hint)))
	}
}
