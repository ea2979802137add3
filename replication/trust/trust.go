package trust

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ErrUntrusted is in the error for a file that others control.
var ErrUntrusted = errors.New("other users control it")

// Self accepts the user of this process, and root.
func Self(uid uint32) bool { return uid == 0 || int64(uid) == int64(os.Geteuid()) }

// Owner rejects a file whose owner trusted does not accept. way is one more way out for the
// hint, or "".
func Owner(path string, info fs.FileInfo, trusted func(uid uint32) bool, way string) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && !trusted(st.Uid) {
		return conf.Errorf(conf.CodeDenied, "%s belongs to the user with the id %d: %w", path, st.Uid, ErrUntrusted).
			WithHint("run the command as that user%s", way)
	}
	return nil
}

// Mode rejects a file that its group or others may write to.
func Mode(path string, info fs.FileInfo) error {
	if info.Mode()&0o022 != 0 {
		return conf.Errorf(conf.CodeDenied, "%s has mode %04o: %w", path, info.Mode().Perm(), ErrUntrusted).
			WithHint("check what is in it, then: chmod go-w %s", path)
	}
	return nil
}

// ReadFile reads a file of at most limit bytes that nobody else can have written or put
// there: by its owner and mode, those of its directory, and those of all directories above.
// Above its own directory one with the sticky bit, such as /tmp, may be everybody's.
func ReadFile(path string, limit int64, trusted func(uid uint32) bool) ([]byte, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	const way = "; or, if you trust it, make it yours with chown"
	for _, p := range []string{path, real} {
		info, err := os.Lstat(p)
		if err != nil {
			return nil, err
		}
		if err := Owner(p, info, trusted, way); err != nil { // of the link, when it is one
			return nil, err
		}
		if err := directories(filepath.Dir(p), trusted, way); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, conf.Errorf(conf.CodeUsage, "%s is not a regular file", path).WithHint("give the path of a file")
	}
	if err := Owner(real, info, trusted, way); err != nil {
		return nil, err
	}
	if err := Mode(real, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = conf.Errorf(conf.CodeTooLarge, "%s is over %d bytes", path, limit).WithHint("split it")
	}
	return data, err
}

// directories checks dir and what is above it.
func directories(dir string, trusted func(uid uint32) bool, way string) error {
	for first := true; ; first = false {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := Owner(dir, info, trusted, way); err != nil {
			return err
		}
		if err := Mode(dir, info); err != nil && (first || info.Mode()&fs.ModeSticky == 0) {
			return err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil
		}
		dir = up
	}
}
