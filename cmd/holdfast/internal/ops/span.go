package ops

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// span is --since and --until of a log.
type span struct{ since, until string }

// withAdmin returns the RunE of a command that shows a log: of all services or of
// the one that is its argument, between two times.
func (s *span) withAdmin(a *cli.App, role conf.Role, show func(ctx context.Context, c *client.Client, service, since, until string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		now := time.Now()
		since, err := parseWhen(cmd, s.since, now)
		if err != nil {
			return err
		}
		until, err := parseWhen(cmd, s.until, now)
		if err != nil {
			return err
		}
		return a.WithAdmin(role, func(ctx context.Context, c *client.Client, args []string) error {
			return show(ctx, c, cli.Arg(args, 0), since, until)
		})(cmd, args)
	}
}

// parseWhen reads a time, a day, or how long before now.
func parseWhen(cmd *cobra.Command, text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if t, err := conf.ParseTime(text); err == nil {
		return conf.FormatTime(t), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return conf.FormatTime(t), nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return conf.FormatTime(now.AddDate(0, 0, -n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return conf.FormatTime(now.Add(-d)), nil
	}
	return "", cli.UsageError(cmd, "bad time %q: write 2026-01-02T03:04:05Z, 2026-01-02, or how long ago: 90m, 24h, 7d", text)
}
