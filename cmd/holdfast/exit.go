package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The exit codes. They are a contract with scripts; docs/operating.md lists them.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 3
	exitConflict = 4
	exitDenied   = 5
	exitReadOnly = 6
	exitInvalid  = 7
	exitStale    = 8
)

// exitCodes maps every code of conf. A code is 6 only when surely nothing was
// written, so that a script may repeat the command: an unknown outcome is 1.
var exitCodes = map[conf.Code]int{
	conf.CodeMalformed:       exitInvalid,
	conf.CodeInvalid:         exitInvalid,
	conf.CodeTooLarge:        exitInvalid,
	conf.CodeUnauthenticated: exitDenied,
	conf.CodeDenied:          exitDenied,
	conf.CodeNotFound:        exitNotFound,
	conf.CodeMethod:          exitError,
	conf.CodeConflict:        exitConflict,
	conf.CodeImmutable:       exitDenied,
	conf.CodeUnsupported:     exitError,
	conf.CodeReadOnly:        exitReadOnly,
	conf.CodeNoQuorum:        exitReadOnly,
	conf.CodeOutcomeUnknown:  exitError,
	conf.CodeStale:           exitStale,
	conf.CodeRateLimited:     exitError,
	conf.CodeStorageFull:     exitError,
	conf.CodeCorrupt:         exitError,
	conf.CodeLocked:          exitError,
	conf.CodeSchemaMismatch:  exitError,
	conf.CodeUsage:           exitUsage,
	conf.CodeInternal:        exitError,
}

// quietExit ends a command with a code and no further word: it has said all
// that there is to say.
type quietExit int

func (q quietExit) Error() string { return fmt.Sprintf("exit status %d", int(q)) }

// exitCode is the exit code for what a command returned.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if q, ok := errors.AsType[quietExit](err); ok {
		return int(q)
	}
	if code, ok := exitCodes[conf.CodeOf(err)]; ok {
		return code
	}
	return exitError
}

// report writes err for a person: what happened, each detail on a line, the way out.
func report(w io.Writer, err error) {
	if _, quiet := errors.AsType[quietExit](err); quiet || err == nil {
		return
	}
	message := err.Error()
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	fmt.Fprintf(w, "holdfast: %s\n", clean(strings.TrimSpace(message)))
	if e, ok := errors.AsType[*conf.Error](err); ok {
		for _, d := range e.Details {
			fmt.Fprintf(w, "  %s: %s\n", clean(d.Key), clean(d.Message))
		}
		if e.Code == conf.CodeConflict && e.Current > 0 && !strings.Contains(message, fmt.Sprint(e.Current)) {
			fmt.Fprintf(w, "  current version: %d\n", e.Current)
		}
	}
	if hint := conf.HintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", clean(hint))
	}
}

// clean keeps control characters of other people's text away from the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return '\uFFFD'
		}
		return r
	}, s)
}
