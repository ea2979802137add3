package lkg

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// replaceFile replaces path by what write writes. Info that is not nil describes
// the new file, as in durable.Replace.
func replaceFile(path string, mode fs.FileMode, write func(io.Writer) error) (fs.FileInfo, error) {
	info, err := durable.Replace(path, mode, func(f *os.File) error { return write(f) })
	if err != nil {
		err = unwritten(path, err)
	}
	return info, err
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
