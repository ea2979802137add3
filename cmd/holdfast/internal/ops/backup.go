package ops

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/run"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Backup returns the command holdfast backup.
func Backup(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "backup",
		Short: "Check, list and restore the backups",
		Long: `The leader copies the database continuously to the target of LITESTREAM_S3_ENDPOINT.
list and restore need no agent: they read the settings from the environment and from
the .env file. The .env file itself is not in the backup: keep it elsewhere.`,
	}, backupStatus(a), backupList(a), backupRestore(a), backupDrill(a))
}

func backupStatus(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the state of the backup and its last restore drill",
		Long:    `Show how far the backup is, what is not uploaded yet, and what the last restore drill found.`,
		Example: `  holdfast backup status`,
		Args:    cli.Needs(),
		RunE: a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
			st, err := c.BackupStatus(ctx)
			if err != nil {
				return err
			}
			var list []conf.Backup
			var listErr error
			if st.Status != conf.BackupDisabled {
				list, listErr = c.Backups(ctx)
			}
			return printBackupStatus(a, st, list, listErr)
		}),
	}
}

// printBackupStatus prints the status, and how many backups there are unless
// listing them failed.
func printBackupStatus(a *cli.App, st conf.BackupStatus, list []conf.Backup, listErr error) error {
	bytes := int64(0)
	for _, b := range list {
		bytes += b.Bytes
	}
	if a.AsJSON() {
		return a.PrintJSON(struct {
			conf.BackupStatus
			Generations int   `json:"generations"`
			Bytes       int64 `json:"bytes"`
		}{st, len(list), bytes})
	}
	rows := [][]string{{"status", st.Status}, {"err", cli.Text(st.Err)}, {"made by", st.NodeID}, {"place", st.Place}, {"generation", st.Generation}}
	if st.Status == conf.BackupDisabled {
		err := a.Table(nil, rows)
		a.Note("to have backups set LITESTREAM_S3_ENDPOINT, the same on all servers, and restart them")
		return err
	}
	generations := fmt.Sprintf("%d, %s", len(list), cli.Size(bytes))
	if listErr != nil {
		generations = listErr.Error()
	}
	return a.Table(nil, append(rows, [][]string{
		{"position", fmt.Sprintf("index %d, %d behind", st.Index, st.Behind)},
		{"lag", fmt.Sprintf("%.1f s now, %.1f s p99", st.LagSeconds, st.LagP99Seconds)},
		{"last_backup", cli.Text(st.LastBackup)},
		{"on this disk", cli.Size(st.Waiting)},
		{"last drill", drillText(st.Drill)},
		{"verified", drillText(st.Verified)},
		{"generations", generations},
	}...))
}

func drillText(d *conf.Drill) string {
	switch {
	case d == nil:
		return "never"
	case d.Err != nil:
		return d.At + " failed: " + *d.Err
	default:
		return fmt.Sprintf("%s, index %d, %s", d.At, d.Index, cli.Size(d.Bytes))
	}
}

func backupList(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the backups, the newest first",
		Long: `List the generations: each leadership writes its own. From a generation any moment
between its start and its newest file can be restored, to about a second in its last
minutes and to about half a minute before. When the target holds those of several clusters,
CLUSTER names each by its first epoch.`,
		Example: `  holdfast backup list`,
		Args:    cli.Needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := run.Backups(cmd.Context(), a)
			if err != nil {
				return err
			}
			return printBackups(a, list)
		},
	}
}

func printBackups(a *cli.App, list []conf.Backup) error {
	var clusters []string
	for _, b := range list {
		if !slices.Contains(clusters, b.Cluster) {
			clusters = append(clusters, b.Cluster)
		}
	}
	out := cli.List[conf.Backup]{
		Columns: []string{"GENERATION", "FROM", "TO", "SIZE", "VERIFIED"},
		Row: func(b conf.Backup) []string {
			return []string{b.ID, b.StartedAt, b.Newest, cli.Size(b.Bytes), cli.Text(b.VerifiedAt)}
		},
	}
	if len(clusters) < 2 {
		return out.Print(a, list, list)
	}
	row := out.Row
	out.Columns = append(out.Columns, "CLUSTER")
	out.Row = func(b conf.Backup) []string { return append(row(b), b.Cluster) }
	err := out.Print(a, list, list)
	if !a.AsJSON() {
		a.Note("these are backups of %d clusters; a restore takes those of the cluster whose keys are in the .env file, or the --generation that is named in full. Give each cluster a LITESTREAM_S3_PATH of its own", len(clusters))
	}
	return err
}

func backupRestore(a *cli.App) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Restore a database file from the backup and verify it",
		Long: `Restore into a new file. Its pages, the digest of each of its rows and the digest of its
whole state are verified. It needs no agent and overwrites nothing.

To make a cluster from a backup: holdfast agent --restore. To roll back a running
cluster: holdfast rollback --all.`,
		Example: `  holdfast backup restore -o old.db --timestamp 2026-03-01T12:00:00Z
  holdfast backup restore -o config.db --generation 7-node-1`,
		Args: cli.Needs(),
	}
	// Here -o is the file, as it is for litestream restore.
	cmd.Flags().StringVarP(&out, "output", "o", "", "the `FILE` to make; it must not exist")
	asJSON := cmd.Flags().Bool("json", false, "print the result as JSON")
	point := run.AddPoint(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return cli.UsageError(cmd, "no file to restore to").WithHint("name one: -o FILE")
		}
		got, err := run.RestoreFile(cmd, a, point, out)
		if err != nil {
			return err
		}
		if *asJSON {
			return a.PrintJSON(got)
		}
		a.Say("%s: %s, the state of %s (index %d, epoch %s), from generation %s", got.File, cli.Size(got.Bytes), got.At, got.Index, got.Epoch, got.Generation)
		a.Say("proved: its pages, its rows and its state digest %s", got.Digest)
		return nil
	}
	return cmd
}

func backupDrill(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "drill",
		Short: "Run a restore drill of the backup now",
		Long: `The leader restores the newest point of the backup to a temporary file and compares it
with the state that it had at that index. It also does so every CONFIG_BACKUP_DRILL.`,
		Example: `  holdfast backup drill`,
		Args:    cli.Needs(),
		RunE: a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, _ []string) error {
			d, err := c.DrillBackup(ctx)
			if err != nil {
				return err
			}
			return a.Print(d, "verified: index %d, %s, restored in %.1f s", d.Index, cli.Size(d.Bytes), d.Took)
		}),
	}
}
