package store

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// file is the database file.
type file struct {
	path        string
	busyTimeout time.Duration
	opened      [2]fs.FileInfo // the database and its WAL
}

// Caches are small: idle memory counts on the small machines that agents run on.
const (
	readerCache = 2048 // KiB
	writerCache = 8192 // KiB
)

// prepare makes the directory and the file with their modes before SQLite
// would with its own, and returns its size.
func (f *file) prepare() (int64, error) {
	path := f.path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, f.err(err)
	}
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0 {
		return 0, tables.Corrupt("%s is not a file", path)
	}
	h, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, f.err(err)
	}
	defer h.Close()
	st, err := h.Stat()
	if err != nil {
		return 0, f.err(err)
	}
	if !st.Mode().IsRegular() {
		return 0, tables.Corrupt("%s is not a file", path)
	}
	if st.Size() > 0 && st.Size() < tables.PageSize {
		return 0, tables.Corrupt("%s has %d bytes", path, st.Size()) // SQLite would take it for an empty one
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := h.Chmod(0o600); err != nil {
			return 0, f.err(err)
		}
	}
	return st.Size(), nil
}

// dsn builds the URI. Without the file: prefix SQLite ignores its query.
func (f *file) dsn(readOnly bool) string {
	v := url.Values{}
	v.Set("_busy_timeout", fmt.Sprint(f.busyTimeout.Milliseconds()))
	v.Set("_defensive", "1")
	v.Set("_dqs", "0")
	v.Set("_error_rc", "1")
	pragmas := []string{"cell_size_check(1)", "trusted_schema(0)", "temp_store(2)"}
	if readOnly {
		v.Set("mode", "ro")
		pragmas = append(pragmas, fmt.Sprintf("cache_size(-%d)", readerCache), "query_only(1)")
	} else {
		v.Set("_txlock", "immediate")
		pragmas = append(pragmas, "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(0)", fmt.Sprintf("cache_size(-%d)", writerCache))
	}
	for _, p := range pragmas {
		v.Add("_pragma", p)
	}
	return "file:" + (&url.URL{Path: f.path}).EscapedPath() + "?" + v.Encode()
}

func (f *file) walPath() string { return f.path + "-wal" }

// stat records which files are open, for check.
func (f *file) stat() error {
	for i, p := range []string{f.path, f.walPath()} {
		st, err := os.Stat(p)
		if err != nil {
			return f.err(err)
		}
		f.opened[i] = st
	}
	return nil
}

// check returns an error when the files under path are not those that are open.
// After a delete or a swap, commits go to a file that has no name any more.
func (f *file) check() error {
	for i, p := range []string{f.path, f.walPath()} {
		st, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return tables.Corrupt("%s was deleted while it was open", p)
		case err != nil:
			return f.err(err)
		case !os.SameFile(st, f.opened[i]):
			return tables.Corrupt("%s was replaced while it was open", p)
		}
	}
	return nil
}
