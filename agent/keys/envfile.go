package keys

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/joho/godotenv"
	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/trust"
)

const maxEnvFile = 1 << 20

// ReadEnvFile reads the variables of a .env file. A file that does not exist, or an
// empty path, has none. Errors name the line and never quote it.
func ReadEnvFile(path string) (map[string]string, error) {
	if path == "" {
		return map[string]string{}, nil
	}
	content, err := readContent(path)
	if err != nil {
		return nil, err
	}
	return parseEnv(content, path)
}

// ErrUntrusted is in the error of ReadTrustedEnvFile for a file that others control.
var ErrUntrusted = trust.ErrUntrusted

// ReadTrustedEnvFile is ReadEnvFile for a file that decides where secrets are sent. It
// returns ErrUntrusted when the file, or a symbolic link at its path, is of an owner that
// trusted does not accept, or when its group or others may write to it.
func ReadTrustedEnvFile(path string, trusted func(uid uint32) bool) (map[string]string, error) {
	if path == "" {
		return map[string]string{}, nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := checkOwner(path, info, trusted); err != nil {
			return nil, err
		}
	}
	content, err := readChecked(path, func(info fs.FileInfo) error {
		if err := checkOwner(path, info, trusted); err != nil {
			return err
		}
		return trust.Mode(path, info)
	})
	if err != nil {
		return nil, err
	}
	return parseEnv(content, path)
}

func checkOwner(path string, info fs.FileInfo, trusted func(uid uint32) bool) error {
	return trust.Owner(path, info, trusted, "; or, if you trust the file: --env-file "+path)
}

// readContent returns nothing for a file that does not exist.
func readContent(path string) ([]byte, error) { return readChecked(path, nil) }

// readChecked is readContent with a check of the open file, unless check is nil.
func readChecked(path string, check func(fs.FileInfo) error) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nil, nil
	case err != nil:
		return nil, unreadable(path, err)
	case !info.Mode().IsRegular():
		return nil, conf.Errorf(conf.CodeInvalid, "%s is not a regular file", path).WithHint("set CONFIG_ENV_FILE to a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer func() { _ = f.Close() }()
	if check != nil {
		if info, err = f.Stat(); err != nil {
			return nil, unreadable(path, err)
		}
		if err := check(info); err != nil {
			return nil, err
		}
	}
	content, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(content) > maxEnvFile {
		return nil, conf.Errorf(conf.CodeTooLarge, "%s is over %d bytes", path, maxEnvFile).WithHint("set CONFIG_ENV_FILE to a .env file")
	}
	return content, nil
}

func unreadable(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return conf.Errorf(conf.CodeUsage, "cannot read %s: %w", path, err).
		WithHint("let the user that runs the agent read it, or set CONFIG_ENV_FILE to another file")
}

func parseEnv(content []byte, path string) (map[string]string, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	vars, err := godotenv.UnmarshalBytes(content)
	if err != nil {
		// The parser's error quotes the file, and so its keys.
		return nil, conf.Errorf(conf.CodeInvalid, "%s is not a .env file: see line %d", path, brokenLine(content)).
			WithHint(`write NAME=value lines, comments with #, and close every quote`)
	}
	return vars, nil
}

// brokenLine returns the number of the line after the longest prefix that parses.
func brokenLine(content []byte) int {
	valid, line := 0, 0
	for at := 0; at < len(content) && line < 2000; {
		n := bytes.IndexByte(content[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
		line++
		if _, err := godotenv.UnmarshalBytes(content[:at]); err == nil {
			valid = line
		}
	}
	return valid + 1
}

// envTarget is the .env file while this process has its lock.
type envTarget struct {
	path string // without symbolic links
	file *os.File
}

// lockEnvFile opens or creates the file and takes an exclusive lock on it. The lock is
// on the file itself, which a rename replaces, so the path must still name the locked
// file afterwards.
func lockEnvFile(path string, timeout time.Duration) (*envTarget, error) {
	if path == "" {
		return nil, errors.New("no path")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(timeout); ; {
		t, err := tryLock(path)
		if err != nil || t != nil {
			return t, err
		}
		if time.Now().After(deadline) {
			return nil, conf.Errorf(conf.CodeLocked, "another process has held %s for %s", path, timeout).
				WithHint("end the process that is generating keys, then start again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tryLock returns neither a file nor an error when the caller must retry.
func tryLock(path string) (*envTarget, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var mine, now os.FileInfo
		if mine, err = f.Stat(); err == nil {
			if now, err = os.Stat(path); err == nil && os.SameFile(mine, now) {
				return resolved(path, f)
			}
		}
	}
	_ = f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, err
}

// resolved follows symbolic links, so that the file is replaced and not the link.
func resolved(path string, f *os.File) (*envTarget, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &envTarget{path: path, file: f}, nil
}

func (t *envTarget) close() { _ = t.file.Close() } // releases the lock

// write replaces content, which the file has, by next. Where the file cannot be
// replaced, as a single file that is mounted into a container, it appends block,
// which must mean the same: the last line of a variable counts. stored reports that
// readers find the new content, although with an err it may not be durable.
func (t *envTarget) write(next, content []byte, block string) (stored bool, err error) {
	stored, err = t.replace(next)
	if stored || err == nil {
		return stored, err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) {
		return false, err
	}
	if _, err := t.file.WriteAt([]byte(block), int64(len(content))); err != nil {
		_ = t.file.Truncate(int64(len(content)))
		return false, err
	}
	_ = t.file.Chmod(0o600) // fails when another user owns the file
	return true, t.file.Sync()
}

func (t *envTarget) replace(next []byte) (stored bool, err error) {
	_ = durable.RemoveTemps(t.path) // under the lock all of them are left over from a crash
	info, err := durable.Replace(t.path, 0o600, func(tmp *os.File) error {
		if err := keepOwner(t.file, tmp); err != nil {
			return err
		}
		_, err := tmp.Write(next)
		return err
	})
	return info != nil, err
}

// keepOwner gives tmp the owner of the old file.
func keepOwner(old, tmp *os.File) error {
	a, err := old.Stat()
	if err != nil {
		return err
	}
	b, err := tmp.Stat()
	if err != nil {
		return err
	}
	was, ok1 := a.Sys().(*syscall.Stat_t)
	is, ok2 := b.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || (was.Uid == is.Uid && was.Gid == is.Gid) {
		return nil
	}
	return tmp.Chown(int(was.Uid), int(was.Gid))
}
