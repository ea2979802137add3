package durable

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// WriteFile is Replace with data as the content.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	_, err := Replace(path, mode, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	return err
}

// Replace replaces the file path by one that write fills. Its mode is mode before
// umask. On an error the file is as it was, unless info is not nil: then it was
// replaced, but a power failure may undo that. info describes the new file.
func Replace(path string, mode fs.FileMode, write func(*os.File) error) (info fs.FileInfo, err error) {
	dir := filepath.Dir(path)
	name := filepath.Join(dir, tempPrefix(path)+strconv.FormatUint(rand.Uint64(), 36))
	tmp, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	if info, err = fill(tmp, write); err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		_ = os.Remove(name)
		return nil, err
	}
	return info, SyncDir(dir)
}

// fill writes, syncs and closes f. An error of the close counts: a network file
// system may report a failed write only there.
func fill(f *os.File, write func(*os.File) error) (info fs.FileInfo, err error) {
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	return info, errors.Join(err, f.Close())
}

func tempPrefix(path string) string { return "." + filepath.Base(path) + ".tmp-" }

// RemoveTemps removes the temporary files that crashed writers of path left. No
// writer of path may run at the same time.
func RemoveTemps(path string) error {
	dir, prefix := filepath.Dir(path), tempPrefix(path)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Rename gives a file that is already durable another name in the same directory, and makes
// that durable.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// SyncDir makes the creation, renaming and removal of names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // the file system does not sync directories
		err = nil
	}
	return errors.Join(err, d.Close())
}
