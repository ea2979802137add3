package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newBackup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "See, prove and restore the backups",
		Long: `The leader copies the database, all the time, to where LITESTREAM_S3_ENDPOINT names.
list and restore need no agent: they read the settings from the environment and from
the .env file. The .env file itself is not in the backup: keep it elsewhere.`,
	}
	cmd.AddCommand(newBackupStatus(a), newBackupList(a), newBackupRestore(a), newBackupDrill(a))
	return dispatch(cmd)
}

func newBackupStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "How the backup is, and when it was last proved",
		Long:    `Ask the leader how far the backup is, what waits, and what the last restore drill found.`,
		Example: `  holdfast backup status`,
		Args:    needs(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return err
		}
		st, err := c.BackupStatus(cmd.Context())
		if err != nil {
			return err
		}
		var list []conf.Backup
		var lerr error
		if st.Status != conf.BackupDisabled {
			list, lerr = c.Backups(cmd.Context())
		}
		if a.asJSON() {
			return a.printJSON(struct {
				conf.BackupStatus
				Generations int   `json:"generations"`
				Bytes       int64 `json:"bytes"`
			}{st, len(list), sumBytes(list)})
		}
		text := func(p *string) string {
			if p == nil {
				return "-"
			}
			return *p
		}
		rows := [][]string{{"status", st.Status}, {"err", text(st.Err)}, {"made by", st.NodeID}, {"place", st.Place}, {"generation", st.Generation}}
		if st.Status != conf.BackupDisabled {
			rows = append(rows, [][]string{
				{"position", fmt.Sprintf("index %d, %d behind", st.Index, st.Behind)},
				{"lag", fmt.Sprintf("%.1f s now, %.1f s p99", st.LagSeconds, st.LagP99Seconds)},
				{"last_backup", text(st.LastBackup)},
				{"on this disk", size(st.Waiting)},
				{"last drill", drillText(st.Drill)},
				{"verified", drillText(st.Verified)},
			}...)
			if lerr != nil {
				rows = append(rows, []string{"generations", lerr.Error()})
			} else {
				rows = append(rows, []string{"generations", fmt.Sprintf("%d, %s", len(list), size(sumBytes(list)))})
			}
		}
		if err := a.table(nil, rows); err != nil {
			return err
		}
		if st.Status == conf.BackupDisabled {
			a.note("to have backups set LITESTREAM_S3_ENDPOINT, the same on all servers, and restart them")
		}
		return nil
	}
	return cmd
}

func sumBytes(list []conf.Backup) (n int64) {
	for _, b := range list {
		n += b.Bytes
	}
	return n
}

func drillText(d *conf.Drill) string {
	switch {
	case d == nil:
		return "never"
	case d.Err != nil:
		return d.At + " failed: " + *d.Err
	default:
		return fmt.Sprintf("%s, index %d, %s", d.At, d.Index, size(d.Bytes))
	}
}

func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func newBackupList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups, the newest first",
		Long: `List the generations: each leadership writes its own. From a generation any moment
between its start and its newest file can be restored, to about a second in its last
minutes and to about half a minute before. When the place holds those of several clusters,
CLUSTER names each by its first epoch.`,
		Example: `  holdfast backup list`,
		Args:    needs(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := a.backups(cmd.Context())
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(list)
		}
		rows := make([][]string, len(list))
		var clusters []string
		for i, b := range list {
			verified := "-"
			if b.VerifiedAt != nil {
				verified = *b.VerifiedAt
			}
			rows[i] = []string{b.ID, b.StartedAt, b.Newest, size(b.Bytes), verified}
			if !slices.Contains(clusters, b.Cluster) {
				clusters = append(clusters, b.Cluster)
			}
		}
		head := []string{"GENERATION", "FROM", "TO", "SIZE", "VERIFIED"}
		if len(clusters) > 1 {
			head = append(head, "CLUSTER")
			for i, b := range list {
				rows[i] = append(rows[i], b.Cluster)
			}
		}
		if err := a.table(head, rows); err != nil {
			return err
		}
		if len(clusters) > 1 {
			a.note("these are backups of %d clusters; a restore takes those of the cluster whose keys are in the .env file, or the --generation that is named in full. Give each cluster a LITESTREAM_S3_PATH of its own", len(clusters))
		}
		return nil
	}
	return cmd
}

// backups asks the place itself when its settings are here, else the agent.
func (a *app) backups(ctx context.Context) ([]conf.Backup, error) {
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	if o.Backup.Enabled() {
		return agent.ListBackups(ctx, *o)
	}
	c, err := a.admin(conf.RoleRead)
	if err != nil {
		return nil, err
	}
	return c.Backups(ctx)
}

// pointFlags are --timestamp and --generation.
type pointFlags struct{ at, generation string }

func restorePoint(cmd *cobra.Command) *pointFlags {
	p := &pointFlags{}
	cmd.Flags().StringVar(&p.at, "timestamp", "", "the newest state that was in the backup before this `TIME`, such as 2026-03-01T12:00:00Z")
	cmd.Flags().StringVar(&p.generation, "generation", "", "only this `GENERATION` of holdfast backup list")
	return p
}

func (p *pointFlags) parse(cmd *cobra.Command) (agent.RestorePoint, error) {
	out := agent.RestorePoint{Generation: p.generation}
	if p.at == "" {
		return out, nil
	}
	t, err := parseTime(cmd, p.at)
	out.At = t
	return out, err
}

func parseTime(cmd *cobra.Command, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usageError(cmd, "%q is not a time", text).WithHint("write it as 2026-03-01T12:00:00Z or 2026-03-01T13:00:00+01:00")
	}
	return t, nil
}

func newBackupRestore(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make a database file from the backup, and prove it",
		Long: `Restore into a new file. Its pages, the digest of each of its rows and the digest of its
whole state are proved. It needs no agent and overwrites nothing.

To make a cluster from a backup: holdfast agent --restore. To take a running cluster back
in time: holdfast rollback --all.`,
		Example: `  holdfast backup restore -o old.db --timestamp 2026-03-01T12:00:00Z
  holdfast backup restore -o config.db --generation 7-node-1`,
		Args: needs(),
	}
	// Here -o is the file, as it is for litestream restore.
	cmd.Flags().StringVarP(&out, "output", "o", "", "the `FILE` to make; it must not exist")
	asJSON := cmd.Flags().Bool("json", false, "print the result as JSON")
	point := restorePoint(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return usageError(cmd, "no file to restore to").WithHint("name one: -o FILE")
		}
		o, err := a.options()
		if err != nil {
			return err
		}
		p, err := point.parse(cmd)
		if err != nil {
			return err
		}
		bar := a.progress("restoring")
		p.Progress = bar.at
		logger, err := agent.NewLogger(*o, a.err)
		if err != nil {
			return err
		}
		got, err := agent.RestoreFile(cmd.Context(), *o, p, out, logger)
		bar.end()
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(got)
		}
		a.say("%s: %s, the state of %s (index %d, epoch %s), from generation %s", got.File, size(got.Bytes), got.At, got.Index, got.Epoch, got.Generation)
		a.say("proved: its pages, its rows and its state digest %s", got.Digest)
		return nil
	}
	return cmd
}

func newBackupDrill(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Prove the backup now, by restoring it",
		Long: `Let the leader restore the newest point of the backup to a temporary file and compare it
with the state that it had at that index. It does so by itself every CONFIG_BACKUP_DRILL.`,
		Example: `  holdfast backup drill`,
		Args:    needs(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		d, err := c.DrillBackup(cmd.Context())
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(d)
		}
		a.say("verified: index %d, %s, restored in %.1f s", d.Index, size(d.Bytes), d.Took)
		return nil
	}
	return cmd
}

// restoreCluster fills the data directory for the agent that is then started.
func (a *app) restoreCluster(ctx context.Context, o agent.Options, p agent.RestorePoint) error {
	logger, err := agent.NewLogger(o, a.err)
	if err != nil {
		return err
	}
	bar := a.progress("restoring")
	defer bar.end()
	p.Progress = bar.at
	_, err = agent.RestoreCluster(ctx, o, p, logger)
	return err
}

// bar shows on a terminal how far something is; elsewhere it is silent.
type bar struct {
	a    *app
	what string
	on   bool

	mu   sync.Mutex
	last time.Time
}

func (a *app) progress(what string) *bar {
	return &bar{a: a, what: what, on: isTerminal(a.err)}
}

func (b *bar) at(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.on || total <= 0 || (done < total && time.Since(b.last) < 100*time.Millisecond) {
		return
	}
	b.last = time.Now()
	const width = 30
	n := int(done * width / total)
	fmt.Fprintf(b.a.err, "\r%s [%-*s] %3d%% of %s ", b.what, width, "##############################"[:n], done*100/total, size(total))
}

func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on && !b.last.IsZero() {
		fmt.Fprintln(b.a.err)
	}
	b.on = false
}
