package agent

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// nodeID is the name of this member: the setting, or the one made on first run.
func nodeID(o Options) (string, error) {
	id := o.NodeID
	if id == "" {
		var err error
		if id, err = keep(filepath.Join(o.DataDir, "node-id"), 0o600, func() string { return "node-" + uuid.NewString()[:8] }); err != nil {
			return "", err
		}
	}
	if conf.CheckNode(id) != nil {
		return "", conf.Errorf(conf.CodeUsage, "bad node id %q", id).WithHint("CONFIG_NODE_ID takes 1 to 63 letters, digits, dots, hyphens and underscores")
	}
	return id, nil
}

// localToken is what a service shows to read its secrets. Its group may read the
// file, so that a service under another user can be let in by chgrp.
func localToken(path string) (string, error) {
	return keep(path, 0o640, func() string {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // never fails (Go 1.24)
		return "hf_local_" + base64.RawURLEncoding.EncodeToString(b)
	})
}

// keep reads a one-line file, or makes it. A line that was torn in a crash is
// made again: O_EXCL on a temporary name and a rename leave all or nothing.
func keep(path string, mode os.FileMode, fresh func() string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(data)) != "" {
		return strings.TrimSpace(string(data)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", conf.Errorf(conf.CodeUsage, "reading %s: %w", path, err)
	}
	v := fresh()
	if err := replaceLine(path, mode, v); err != nil {
		return "", err
	}
	return v, nil
}

// replaceLine makes the file hold the line, whatever it held.
func replaceLine(path string, mode os.FileMode, v string) error {
	tmp := path + ".tmp"
	_ = os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return conf.Errorf(conf.CodeUsage, "writing %s: %w", path, err)
	}
	_, werr := f.WriteString(v + "\n")
	if err := errors.Join(werr, f.Sync(), f.Close(), os.Rename(tmp, path)); err != nil {
		return conf.Errorf(conf.CodeStorageFull, "writing %s: %w", path, err)
	}
	return nil
}
