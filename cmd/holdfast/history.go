package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newHistory(a *app) *cobra.Command {
	var f conf.HistoryFilter
	var since, until string
	cmd := &cobra.Command{
		Use:   "history [SERVICE]",
		Short: "Show who changed which key, when and why",
		Long: `Show changes, newest first. --since and --until take a time (2026-01-02T03:04:05Z),
a day (2026-01-02), or how long ago (90m, 24h, 7d).`,
		Example: `  holdfast history stt-worker
  holdfast history --since 24h
  holdfast history stt-worker --key vad_threshold -o json`,
		Args: needs("[SERVICE]"), ValidArgsFunction: a.completeService,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Key, "key", "", "only this key")
	fl.StringVar(&f.User, "user", "", "only changes by this user")
	fl.StringVar(&since, "since", "", "only changes at this time or later")
	fl.StringVar(&until, "until", "", "only changes at this time or earlier")
	fl.Uint64Var(&f.Version, "version", 0, "only what made this version of the service")
	fl.IntVar(&f.Limit, "limit", 100, "at most this many, up to 1000")
	fl.IntVar(&f.Offset, "offset", 0, "leave out this many first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			f.Service = args[0]
		}
		var err error
		if f.Since, f.Until, err = parseSpan(cmd, since, until); err != nil {
			return err
		}
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return err
		}
		p, err := c.History(cmd.Context(), f)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(p)
		}
		rows := make([][]string, len(p.Results))
		for i, h := range p.Results {
			rows[i] = []string{
				h.ChangedAt, h.Service, strconv.FormatUint(h.Version, 10), h.Key,
				brief(side(h.OldValue), 32), brief(side(h.NewValue), 32), h.ChangedBy, h.Action, brief(h.ChangeReason, 48),
			}
		}
		if len(rows) > 0 {
			if err := a.table([]string{"WHEN", "SERVICE", "VERSION", "KEY", "OLD", "NEW", "BY", "ACTION", "WHY"}, rows); err != nil {
				return err
			}
		}
		a.page(len(rows), p.Total, "change", "changes")
		return nil
	}
	return cmd
}

// side is one side of a change, empty for a key that is not there.
func side(v json.RawMessage) string {
	if len(v) == 0 || string(v) == "null" {
		return ""
	}
	return string(v)
}

// parseSpan reads the two ends of a span of time, both by the same now.
func parseSpan(cmd *cobra.Command, since, until string) (from, to string, err error) {
	now := time.Now()
	if from, err = parseWhen(cmd, since, now); err != nil {
		return "", "", err
	}
	to, err = parseWhen(cmd, until, now)
	return from, to, err
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
	return "", usageError(cmd, "bad time %q: write 2026-01-02T03:04:05Z, 2026-01-02, or how long ago: 90m, 24h, 7d", text)
}
