package run

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent/backupjob"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Point is --timestamp and --generation: which state of a backup to restore.
type Point struct{ at, generation string }

// AddPoint gives cmd the flags of a Point.
func AddPoint(cmd *cobra.Command) *Point {
	p := &Point{}
	cmd.Flags().StringVar(&p.at, "timestamp", "", "the newest state that was in the backup before this `TIME`, such as 2026-03-01T12:00:00Z")
	cmd.Flags().StringVar(&p.generation, "generation", "", "only this `GENERATION` of holdfast backup list")
	return p
}

func (p *Point) parse(cmd *cobra.Command) (out recovery.RestorePoint, err error) {
	out.Generation = p.generation
	if p.at != "" {
		out.At, err = cli.ParseTime(cmd, p.at)
	}
	return out, err
}

// RestoreFile makes a database file from the backup.
func RestoreFile(cmd *cobra.Command, a *cli.App, point *Point, file string) (got recovery.RestoredFile, err error) {
	o, err := a.Options()
	if err != nil {
		return got, err
	}
	p, err := point.parse(cmd)
	if err != nil {
		return got, err
	}
	logger, err := process.NewLogger(*o, a.Err)
	if err != nil {
		return got, err
	}
	bar := &bar{w: a.Err, on: cli.IsTerminal(a.Err)}
	defer bar.end()
	p.Progress = bar.at
	return recovery.RestoreFile(cmd.Context(), *o, p, file, logger)
}

// restoreCluster fills the data directory for the agent that is then started.
func restoreCluster(ctx context.Context, a *cli.App, o options.Options, p recovery.RestorePoint) error {
	logger, err := process.NewLogger(o, a.Err)
	if err != nil {
		return err
	}
	bar := &bar{w: a.Err, on: cli.IsTerminal(a.Err)}
	defer bar.end()
	p.Progress = bar.at
	_, err = recovery.RestoreCluster(ctx, o, p, logger)
	return err
}

// Recover makes the data directory of a stopped server a cluster of one.
func Recover(ctx context.Context, a *cli.App, s *Settings) (r recovery.Recovered, err error) {
	logger, err := process.NewLogger(s.Options, a.Err)
	if err != nil {
		return r, err
	}
	return recovery.Recover(ctx, s.Options, logger)
}

// ReadFile reads a database file that no agent uses.
func ReadFile(ctx context.Context, a *cli.App, path string) (c recovery.FileContent, err error) {
	logger, err := process.NewLogger(options.Defaults(), a.Err)
	if err != nil {
		return c, err
	}
	return recovery.ReadFile(ctx, path, logger)
}

// Backups lists the backups in the target itself when its settings are here, else
// it asks the agent.
func Backups(ctx context.Context, a *cli.App) ([]conf.Backup, error) {
	o, err := a.Options()
	if err != nil {
		return nil, err
	}
	if o.Backup.Enabled() {
		return backupjob.List(ctx, *o)
	}
	c, err := a.Admin(conf.RoleRead)
	if err != nil {
		return nil, err
	}
	return c.Backups(ctx)
}

// bar shows progress on a terminal; elsewhere it prints nothing.
type bar struct {
	w io.Writer

	mu   sync.Mutex
	on   bool
	last time.Time
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
	fmt.Fprintf(b.w, "\rrestoring [%-*s] %3d%% of %s ", width, "##############################"[:n], done*100/total, cli.Size(total))
}

func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on && !b.last.IsZero() {
		fmt.Fprintln(b.w)
	}
	b.on = false
}
