package base

import (
	"fmt"
	"slices"
	"testing"
)

// said records how a test would end.
type said struct {
	testing.TB
	how []string
}

func (s *said) Helper() {}
func (s *said) add(how, format string, a []any) {
	s.how = append(s.how, how+": "+fmt.Sprintf(format, a...))
}
func (s *said) Fatalf(format string, a ...any) { s.add("fatal", format, a) }
func (s *said) Errorf(format string, a ...any) { s.add("error", format, a) }
func (s *said) Skipf(format string, a ...any)  { s.add("skip", format, a) }
func (s *said) Logf(format string, a ...any)   { s.add("log", format, a) }

func TestMissing(t *testing.T) {
	for _, c := range []struct {
		ci   string
		want []string
	}{
		{"", []string{"skip: SKIPPED: no x", "log: SKIPPED: no y"}},
		{"true", []string{"fatal: no x; under CI nothing may be left out", "error: no y; under CI nothing may be left out"}},
	} {
		t.Setenv("CI", c.ci)
		s := &said{TB: t}
		Missing(s, "no %s", "x")
		if c.ci != "" {
			s.how = s.how[:1] // the next statement of Missing
		}
		MissingPart(s, "no %s", "y")
		if !slices.Equal(s.how, c.want) {
			t.Errorf("with CI=%q: %q, want %q", c.ci, s.how, c.want)
		}
	}
}
