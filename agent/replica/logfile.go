package replica

import (
	"os"
	"path/filepath"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// logFile notices that the log of a running replica was deleted or replaced: the open file
// goes on, and all that is written to it is gone at the next start.
type logFile struct {
	path string
	info os.FileInfo // when it was opened
}

func openedLogFile(dir string) (l logFile, err error) {
	l.path = filepath.Join(dir, "raft.db")
	if l.info, err = os.Stat(l.path); err != nil {
		return l, conf.Errorf(conf.CodeCorrupt, "the log of this agent is missing: %w", err).
			WithHint("nothing to do: the log is made again; find out who deletes files of the data directory")
	}
	return l, nil
}

// check returns an error with code corrupt when the file at the path is not the open one.
func (l logFile) check() error {
	now, err := os.Stat(l.path)
	switch {
	case os.IsNotExist(err):
		return conf.Errorf(conf.CodeCorrupt, "%s was deleted while this agent used it", l.path).
			WithHint("nothing to do: the log is made again; find out who deletes files of the data directory")
	case err == nil && !os.SameFile(now, l.info):
		return conf.Errorf(conf.CodeCorrupt, "%s was replaced while this agent used it", l.path).
			WithHint("stop the agent before you restore files; find out who replaces files of the data directory")
	}
	return nil // a disk that cannot be asked is found out by what writes to it
}
