package lkg

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// replaceFile gives path new content, atomically and durably: whoever opens it
// finds all of the old content or all of the new, after a power failure too. It
// returns what the new file is.
func replaceFile(path string, mode fs.FileMode, write func(io.Writer) error) (info fs.FileInfo, err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, tempPrefix(path)+"*")
	if err != nil {
		return nil, unwritten(path, err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
			err = unwritten(path, err)
		}
	}()
	if err := tmp.Chmod(mode); err != nil {
		return nil, err
	}
	if err := write(tmp); err != nil {
		return nil, err
	}
	if err := tmp.Sync(); err != nil {
		return nil, err
	}
	if info, err = tmp.Stat(); err != nil {
		return nil, err
	}
	if err := tmp.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return nil, err
	}
	return info, syncDir(dir)
}

func tempPrefix(path string) string { return "." + filepath.Base(path) + ".tmp-" }

// removeTemps removes what writers that died left of path.
func removeTemps(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix(path)) {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that has nothing to sync there
		err = nil
	}
	return errors.Join(err, d.Close())
}

func unwritten(path string, err error) error {
	code, hint := conf.CodeInternal, "check the disk, and that the agent's user owns the directory"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		code, hint = conf.CodeStorageFull, "free space on the disk"
	}
	if e, ok := errors.AsType[*conf.Error](err); ok {
		code = e.Code
	}
	return conf.Errorf(code, "cannot write %s: %w", path, bare(err)).WithHint("%s", hint)
}

// bare takes the name of the temporary file off err, which is another each time.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}

// WriteJSON replaces the file path with v as indented JSON, atomically.
func WriteJSON(path string, v any, mode fs.FileMode) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return unwritten(path, err)
	}
	_, err := replaceFile(path, mode, func(w io.Writer) error {
		_, err := w.Write(b.Bytes())
		return err
	})
	return err
}

// WriteEpoch replaces health+epoch.json.
func WriteEpoch(path string, e conf.EpochFile) error { return WriteJSON(path, e, 0o600) }

// ReadEpoch reads health+epoch.json. It is CodeNotFound when there is none, and
// CodeCorrupt when it is not what WriteEpoch writes.
func ReadEpoch(path string) (conf.EpochFile, error) {
	const limit = 64 << 10
	data, err := read(path, "epoch file", limit)
	if err != nil {
		return conf.EpochFile{}, err
	}
	var e conf.EpochFile
	if err := conf.DecodeStrict(data, limit, &e); err != nil {
		return conf.EpochFile{}, corrupt("epoch file %s: %w", path, err)
	}
	if e.ConfigEpoch == "" {
		return conf.EpochFile{}, corrupt("epoch file %s: config_epoch is missing", path)
	}
	return e, nil
}
