package ops

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// History returns the command holdfast history.
func History(a *cli.App) *cobra.Command {
	var f conf.HistoryFilter
	var when span
	cmd := &cobra.Command{
		Use:   "history [SERVICE]",
		Short: "Show who changed which key, when and why",
		Long: `Show changes, newest first. --since and --until take a time (2026-01-02T03:04:05Z),
a day (2026-01-02), or how long ago (90m, 24h, 7d).`,
		Example: `  holdfast history stt-worker
  holdfast history --since 24h
  holdfast history stt-worker --key vad_threshold -o json`,
		Args: cli.Needs("[SERVICE]"), ValidArgsFunction: a.CompleteService,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Key, "key", "", "only this key")
	fl.StringVar(&f.User, "user", "", "only changes by this user")
	fl.StringVar(&when.since, "since", "", "only changes at this time or later")
	fl.StringVar(&when.until, "until", "", "only changes at this time or earlier")
	fl.Uint64Var(&f.Version, "version", 0, "only what made this version of the service")
	cli.PageFlags(cmd, &f.Limit, &f.Offset)
	out := cli.List[conf.HistoryEntry]{
		Columns: []string{"WHEN", "SERVICE", "VERSION", "KEY", "OLD", "NEW", "BY", "ACTION", "WHY"},
		Row: func(h conf.HistoryEntry) []string {
			return []string{
				h.ChangedAt, h.Service, strconv.FormatUint(h.Version, 10), h.Key,
				cli.Brief(side(h.OldValue), 32), cli.Brief(side(h.NewValue), 32), h.ChangedBy, h.Action, cli.Brief(h.ChangeReason, 48),
			}
		},
		One: "change", Many: "changes",
	}
	cmd.RunE = when.withAdmin(a, conf.RoleRead, func(ctx context.Context, c *client.Client, service, since, until string) error {
		f.Service, f.Since, f.Until = service, since, until
		f.Key = conf.PlainKey(f.Key)
		p, err := c.History(ctx, f)
		if err != nil {
			return err
		}
		return out.PrintPage(a, p, p.Results, p.Total)
	})
	return cmd
}

// side is one side of a change, "" for a key that did not exist.
func side(v json.RawMessage) string {
	if len(v) == 0 || string(v) == "null" {
		return ""
	}
	return string(v)
}
