package render

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// target is one file. It does not change after Load.
type target struct {
	path     string
	dir      string             // of render.yaml
	template *template.Template // nil with a format

	format, service, key, prefix, section string

	mode       fs.FileMode
	modeSet    bool // else that of the old file
	secret     bool
	allowEmpty bool
	check      []string
}

// newMode is the mode of a file that was not there.
const newMode = 0o640

// output is what a target is to be, and its way there.
type output struct {
	*target
	data []byte
	old  *oldFile // nil when there is none
	temp string   // "" before it is written
}

// changes reports whether the file is to be replaced.
func (o *output) changes() bool {
	return o.old == nil || !bytes.Equal(o.old.data, o.data) || o.wrongMode()
}

// oldFile is the file before.
type oldFile struct {
	data     []byte
	mode     fs.FileMode
	uid, gid int
}

// render makes the content.
func (t *target) render(r reading, single bool) (*output, error) {
	o := &output{target: t}
	var err error
	if t.template != nil {
		o.data, err = t.inTemplate(r, single)
	} else {
		o.data, err = t.inFormat(r[t.service])
	}
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(o.data)) == 0 && !t.allowEmpty {
		return nil, conf.Errorf(conf.CodeInvalid, "the result is empty").WithHint("if that is meant, add allow_empty: true to the target")
	}
	o.old, err = t.read()
	return o, err
}

// read reads the file as it is, nil when there is none.
func (t *target) read() (*oldFile, error) {
	f, err := os.OpenFile(t.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK):
		return nil, errLink(t.path)
	case err != nil:
		return nil, conf.Errorf(conf.CodeDenied, "cannot read the file that is there: %w", err).WithHint("render as a user that may, such as its owner")
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || !ok {
		return nil, errNoFile(t.path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxOutput+1)) // more is no result of this package: it differs
	return &oldFile{data: data, mode: info.Mode().Perm(), uid: int(st.Uid), gid: int(st.Gid)}, err
}

func errLink(path string) error {
	return conf.Errorf(conf.CodeUsage, "%s is a symbolic link, which a rename would replace", path).WithHint("give the path that it leads to")
}

func errNoFile(path string) error {
	return conf.Errorf(conf.CodeUsage, "%s is not a regular file", path).WithHint("give the path of a file")
}

func errMounted(path string) error {
	return conf.Errorf(conf.CodeUnsupported, "%s is a mount point, and a file cannot be renamed over it", path).
		WithHint("mount the directory %s instead of the file, and point the program to the file in it", filepath.Dir(path))
}

// place checks that a file can be renamed to the path.
func (t *target) place() error {
	dir := filepath.Dir(t.path)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return conf.Errorf(conf.CodeUsage, "there is no directory %s", dir).WithHint("make it, with the owner that the files should have")
	}
	info, err := os.Lstat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return conf.Errorf(conf.CodeUsage, "%w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return errLink(t.path)
	case mountPoint(filepath.Join(real, filepath.Base(t.path))):
		return errMounted(t.path)
	case !info.Mode().IsRegular():
		return errNoFile(t.path)
	}
	return nil
}

// mountPoint reports whether something is mounted at a path. Where /proc does not tell, the
// rename does.
func mountPoint(path string) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && unescape.Replace(fields[4]) == path {
			return true
		}
	}
	return false
}

// write makes the temporary file, synced, with the mode and the owner that the target gets.
func (o *output) write() error {
	name := filepath.Join(filepath.Dir(o.path), "."+filepath.Base(o.path)+".tmp-"+strconv.FormatUint(rand.Uint64(), 36)) // as durable has them
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return conf.Errorf(conf.CodeDenied, "cannot write into the directory: %w", err).WithHint("render as a user that may")
	}
	o.temp = name
	err = o.fill(f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = conf.Errorf(conf.CodeInternal, "%w", cerr)
	}
	return err
}

func (o *output) fill(f *os.File) error {
	mode := o.newMode()
	if o.old != nil {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != o.old.uid || int(st.Gid) != o.old.gid) {
			if err := f.Chown(o.old.uid, o.old.gid); err != nil {
				return conf.Errorf(conf.CodeDenied, "the owner of the file, %d:%d, cannot be kept: %w", o.old.uid, o.old.gid, err).
					WithHint("render as that user or as root, or change the owner of the file")
			}
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(o.data); err != nil {
		code := conf.CodeInternal
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			code = conf.CodeStorageFull
		}
		return conf.Errorf(code, "%w", err)
	}
	return f.Sync()
}

func (o *output) newMode() fs.FileMode {
	mode := fs.FileMode(newMode)
	switch {
	case o.modeSet:
		mode = o.mode
	case o.old != nil:
		mode = o.old.mode
	}
	if o.secret {
		mode &^= 0o007
	}
	return mode
}

// wrongMode reports whether a file that is otherwise as it should be lets others at it.
func (o *output) wrongMode() bool {
	return o.old != nil && (o.secret && o.old.mode&0o007 != 0 || o.modeSet && o.old.mode != o.mode)
}

// rename puts the temporary file into its place.
func (o *output) rename() error {
	err := durable.Rename(o.temp, o.path)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return errMounted(o.path)
	case err != nil:
		return conf.Errorf(conf.CodeInternal, "%w", err)
	}
	o.temp = ""
	return nil
}

// discard removes the temporary file.
func (o *output) discard() {
	if o.temp != "" {
		_ = os.Remove(o.temp)
		o.temp = ""
	}
}
