package ops

import (
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"":                     "",
		"2026-01-02T03:04:05Z": "2026-01-02T03:04:05+00:00",
		"90m":                  "2026-03-04T10:30:00+00:00",
		"7d":                   "2026-02-25T12:00:00+00:00",
		"2026-01-02":           conf.FormatTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local)),
	} {
		if got, err := parseWhen(&cobra.Command{}, in, now); err != nil || got != want {
			t.Errorf("%q = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "-1h", "-3d", "d"} {
		if got, err := parseWhen(&cobra.Command{}, bad, now); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%q = %q, %v, want a usage error", bad, got, err)
		}
	}
}
