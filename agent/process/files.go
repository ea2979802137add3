package process

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// NodeID returns the node id of this member: the setting, or the one of its first run.
func NodeID(o options.Options) (string, error) {
	id := o.NodeID
	if id == "" {
		var err error
		if id, err = keepLine(filepath.Join(o.DataDir, "node-id"), 0o600, func() string { return "node-" + uuid.NewString()[:8] }); err != nil {
			return "", err
		}
	}
	if conf.CheckNode(id) != nil {
		return "", conf.Errorf(conf.CodeUsage, "bad node id %q", id).WithHint("CONFIG_NODE_ID takes 1 to 63 letters, digits, dots, hyphens and underscores")
	}
	return id, nil
}

// LocalToken returns the local token, by which a service reads its secrets. Its group may
// read the file, so chgrp gives access to a service under another user.
func LocalToken(path string) (string, error) {
	return keepLine(path, 0o640, func() string {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // never fails (Go 1.24)
		return "hf_local_" + base64.RawURLEncoding.EncodeToString(b)
	})
}

// keepLine reads a one-line file, or makes it with the line of fresh.
func keepLine(path string, mode os.FileMode, fresh func() string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(data)) != "" {
		return strings.TrimSpace(string(data)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", conf.Errorf(conf.CodeUsage, "reading %s: %w", path, err)
	}
	v := fresh()
	if err := ReplaceLine(path, mode, v); err != nil {
		return "", err
	}
	return v, nil
}

// ReplaceLine replaces a file by one line, durably, with the mode whatever the umask is. On
// a full disk the file does not change.
func ReplaceLine(path string, mode os.FileMode, v string) error {
	err := durable.RemoveTemps(path)
	if err == nil {
		_, err = durable.Replace(path, mode, func(f *os.File) error {
			if err := f.Chmod(mode); err != nil {
				return err
			}
			_, err := f.WriteString(v + "\n")
			return err
		})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EIO):
		return conf.Errorf(conf.CodeStorageFull, "writing %s: %w", path, err)
	}
	return conf.Errorf(conf.CodeUsage, "writing %s: %w", path, err)
}

// LockDir locks a data directory, which only one agent at a time may use: two would write
// one database under one node id. The lock ends with the process. On a disk that cannot be
// written it is taken on the file that is there, or on the directory.
func LockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "agent.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		cause := err
		if f, err = os.Open(path); err != nil {
			f, err = os.Open(dir)
		}
		if err != nil {
			return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", cause).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
		}
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, conf.Errorf(conf.CodeUsage, "%w in %s", ErrRunning, dir).WithHint("stop it, or set CONFIG_DATA_DIR to another directory")
	}
	if err != nil { // NFS locks no file that is open for reading only
		if writable := unix.Access(dir, unix.W_OK) == nil; writable {
			_ = f.Close()
			return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", &os.PathError{Op: "flock", Path: f.Name(), Err: err}).
				WithHint("set CONFIG_DATA_DIR to a directory on a file system with locks")
		}
	}
	return f, nil
}

// ErrRunning is in the error of LockDir when another agent has the lock.
var ErrRunning = errors.New("another agent runs")
