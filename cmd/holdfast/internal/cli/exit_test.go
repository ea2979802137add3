package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestExitCodesCoverEveryCode(t *testing.T) {
	for _, c := range conf.Codes() {
		if _, ok := ExitCodes[c]; !ok {
			t.Errorf("no exit code for %q", c)
		}
	}
	if len(ExitCodes) != len(conf.Codes()) {
		t.Errorf("table has %d codes, conf has %d", len(ExitCodes), len(conf.Codes()))
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("plain"), 1},
		{conf.Errorf(conf.CodeUsage, "x"), 2},
		{fmt.Errorf("wrapped: %w", conf.Errorf(conf.CodeNotFound, "x")), 3},
		{conf.Errorf(conf.CodeConflict, "x"), 4},
		{conf.Errorf(conf.CodeDenied, "x"), 5},
		{conf.Errorf(conf.CodeUnauthenticated, "x"), 5},
		{conf.Errorf(conf.CodeReadOnly, "x"), 6},
		{conf.Errorf(conf.CodeNoQuorum, "x"), 6},
		{conf.Errorf(conf.CodeOutcomeUnknown, "x"), 1},
		{conf.Errorf(conf.CodeMalformed, "x"), 7},
		{conf.Errorf(conf.CodeStale, "x"), 8},
		{QuietExit(1), 1},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("exitCode(%v) = %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestReport(t *testing.T) {
	e := conf.Errorf(conf.CodeInvalid, "2 fields are invalid").WithHint("look at the schema")
	e.Details = []conf.FieldError{{Key: "a", Message: "must be >= 0"}, {Key: "b", Message: "bad \x1b[31m"}}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"details", e, "holdfast: 2 fields are invalid\n  a: must be >= 0\n  b: bad \uFFFD[31m\nhint: look at the schema\n"},
		{"plain", errors.New("boom\n"), "holdfast: boom\n"},
		{"wrapped hint", fmt.Errorf("agent: %w", conf.Errorf(conf.CodeUsage, "x").WithHint("y")), "holdfast: agent: x\nhint: y\n"},
		{"conflict", &conf.Error{Code: conf.CodeConflict, Message: "conflict", Current: 4}, "holdfast: conflict\n  current version: 4\n"},
		{"cancelled", context.Canceled, "holdfast: interrupted\n"},
		{"quiet", QuietExit(1), ""},
		{"nil", nil, ""},
	} {
		var b strings.Builder
		Report(&b, tc.err)
		if b.String() != tc.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.name, b.String(), tc.want)
		}
	}
}
