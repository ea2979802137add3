package replica

import (
	"os"
	"path/filepath"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// logFile notices that the log of a running replica was deleted or replaced: the open files
// go on, and all that is written to them is gone at the next start.
type logFile struct {
	opened map[string]os.FileInfo // by path, when it was opened
}

// logPaths are raft.db, and the directory of the segments of a log that has them there.
func logPaths(dir string) []string {
	return []string{filepath.Join(dir, "raft.db"), filepath.Join(dir, "segments")}
}

func openedLogFile(dir string) (l logFile, err error) {
	l.opened = map[string]os.FileInfo{}
	for i, path := range logPaths(dir) {
		info, err := os.Stat(path)
		switch {
		case err == nil:
			l.opened[path] = info
		case i == 0:
			return l, conf.Errorf(conf.CodeCorrupt, "the log of this agent is missing: %w", err).
				WithHint("nothing to do: the log is made again; find out who deletes files of the data directory")
		}
	}
	return l, nil
}

// check returns an error with code corrupt when what is at a path is not what is open.
func (l logFile) check() error {
	for path, info := range l.opened {
		now, err := os.Stat(path)
		switch {
		case os.IsNotExist(err):
			return conf.Errorf(conf.CodeCorrupt, "%s was deleted while this agent used it", path).
				WithHint("nothing to do: the log is made again; find out who deletes files of the data directory")
		case err == nil && !os.SameFile(now, info):
			return conf.Errorf(conf.CodeCorrupt, "%s was replaced while this agent used it", path).
				WithHint("stop the agent before you restore files; find out who replaces files of the data directory")
		}
	}
	return nil // a disk that cannot be asked is found out by what writes to it
}
