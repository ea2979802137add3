package lkg

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// replaceFile replaces path by what write writes. Info that is not nil describes
// the new file, as in durable.Replace.
func replaceFile(path string, mode fs.FileMode, write func(*os.File) error) (fs.FileInfo, error) {
	info, err := durable.Replace(path, mode, write)
	if err != nil {
		err = writeError(path, err)
	}
	return info, err
}

func writeError(path string, err error) error {
	code, hint := conf.CodeInternal, "check the disk, and that the agent's user owns the directory"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		code, hint = conf.CodeStorageFull, "free space on the disk"
	}
	if e, ok := errors.AsType[*conf.Error](err); ok {
		code = e.Code
	}
	return conf.Errorf(code, "cannot write %s: %w", path, withoutTempName(err)).WithHint("%s", hint)
}

// withoutTempName removes the name of the temporary file from err, which varies.
func withoutTempName(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}

// WriteJSON replaces the file path by v as indented JSON, durably.
func WriteJSON(path string, v any, mode fs.FileMode) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return writeError(path, err)
	}
	_, err := replaceFile(path, mode, func(f *os.File) error {
		_, err := f.Write(b.Bytes())
		return err
	})
	return err
}

// ReadEpoch reads health+epoch.json. The error is CodeNotFound without a file, and
// CodeCorrupt for invalid content.
func ReadEpoch(path string) (conf.EpochFile, error) {
	const limit = 64 << 10
	data, err := read(path, "epoch file", limit)
	if err != nil {
		return conf.EpochFile{}, err
	}
	var e conf.EpochFile
	if err := conf.DecodeStrict(data, limit, &e); err != nil {
		return conf.EpochFile{}, corruptError("epoch file %s: %w", path, err)
	}
	if e.ConfigEpoch == "" {
		return conf.EpochFile{}, corruptError("epoch file %s: config_epoch is missing", path)
	}
	return e, nil
}
