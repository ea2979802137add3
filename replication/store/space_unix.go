//go:build unix

package store

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// noSpace distinguishes a full disk from a broken one: SQLite reports some writes
// that failed for lack of space as plain I/O errors.
func noSpace(path string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		return false
	}
	return uint64(st.Bavail)*uint64(st.Bsize) < 1<<20 //nolint:gosec,unconvert // the types differ between systems
}

func isReadOnlyFS(err error) bool { return errors.Is(err, unix.EROFS) }

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
