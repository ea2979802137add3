package recovery

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Files says which files of an earlier run are on the disk.
type Files struct {
	Database bool
	Raft     bool
	Other    bool // last-known-good file, epoch file or quarantine
}

// ExistingFiles looks for the files of an earlier run.
func ExistingFiles(o *options.Options) Files {
	exists := func(p string) bool { _, err := os.Lstat(p); return !errors.Is(err, fs.ErrNotExist) }
	return Files{
		Database: exists(o.DBPath),
		Raft:     exists(filepath.Join(o.RaftDir(), "raft.db")) || nonEmpty(filepath.Join(o.RaftDir(), "snapshots")),
		Other:    exists(o.LKGPath) || exists(o.EpochPath) || exists(filepath.Join(o.DataDir, "quarantine")),
	}
}

func nonEmpty(dir string) bool {
	d, err := os.ReadDir(dir)
	return err == nil && len(d) > 0
}

// DatabaseFiles are the database and the files that belong to it.
func DatabaseFiles(path string) []string { return []string{path, path + "-wal", path + "-shm"} }

// Quarantine moves damaged files below quarantine/ in the data directory, together, so
// that nothing is lost and nothing is read again.
func Quarantine(dataDir string, log *slog.Logger, reason string, paths ...string) error {
	dir := filepath.Join(dataDir, "quarantine", time.Now().UTC().Format("20060102T150405.000000000Z"))
	moved := false
	for _, p := range paths {
		if _, err := os.Lstat(p); err != nil {
			continue
		}
		if !moved {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return conf.Errorf(conf.CodeStorageFull, "cannot set %s aside: %w", p, err)
			}
			moved = true
		}
		if err := os.Rename(p, filepath.Join(dir, filepath.Base(p))); err != nil {
			return conf.Errorf(conf.CodeStorageFull, "cannot set %s aside: %w", p, err)
		}
	}
	if moved {
		log.Warn("set damaged files aside", "dir", dir, "reason", reason)
		return lkg.WriteJSON(filepath.Join(dir, "reason.json"), map[string]string{"reason": reason, "at": conf.FormatTime(time.Now())}, 0o600)
	}
	return nil
}
