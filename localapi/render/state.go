package render

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// Document is what an agent serves of a service.
type Document struct {
	Service string
	Epoch   string
	Version uint64
	// IssuedAt tells a version that was counted again, as an observer does that lost its
	// files, from an older one; "" when that cannot be.
	IssuedAt string
	Replica  bool            // not from the last-known-good file, and no default
	Config   json.RawMessage // the effective document
}

// state is what a group was rendered from, and what is due. It is beside the first target.
type state struct {
	Services  map[string]seen `json:"services"`
	Left      []string        `json:"left_epochs,omitempty"` // epochs before those of Services
	ReloadDue bool            `json:"reload_due,omitempty"`
}

type seen struct {
	Epoch    string `json:"epoch"`
	Version  uint64 `json:"version"`
	IssuedAt string `json:"issued_at,omitempty"`
}

// maxLeft bounds the epochs that are remembered.
const maxLeft = 32

func (g *Group) stateFile() string {
	dir, name := filepath.Split(g.targets[0].path)
	return filepath.Join(dir, "."+name+".holdfast")
}

// readState returns an empty state when there is none, or one that is no state.
func (g *Group) readState() (state, error) {
	var st state
	data, err := os.ReadFile(g.stateFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return st, nil
	case err != nil:
		return st, conf.Errorf(conf.CodeDenied, "cannot read what the group was rendered from: %w", err).WithHint("render as the same user as before, or remove the file")
	}
	if json.Unmarshal(data, &st) != nil {
		return state{ReloadDue: true}, nil
	}
	return st, nil
}

func (g *Group) writeState(st state) error {
	data, err := json.Marshal(st)
	if err == nil {
		_, err = durable.Replace(g.stateFile(), 0o600, func(f *os.File) error {
			// Root may do the work of another user once.
			if info, err := os.Lstat(g.stateFile()); err == nil && os.Geteuid() == 0 {
				if was, ok := info.Sys().(*syscall.Stat_t); ok {
					if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
						return err
					}
				}
			}
			_, err := f.Write(append(data, '\n'))
			return err
		})
	}
	if err != nil {
		return conf.Errorf(conf.CodeDenied, "cannot write into the directory: %w", err).WithHint("render as a user that may")
	}
	return nil
}

// older reports whether a document is older than what the group was rendered from.
func (st *state) older(d Document) bool {
	have, known := st.Services[d.Service]
	if !known {
		return false
	}
	newer := d.Replica && d.IssuedAt > have.IssuedAt && d.IssuedAt != ""
	switch {
	case d.Epoch == have.Epoch:
		return d.Version < have.Version && !newer
	case d.Epoch == "" || slices.Contains(st.Left, d.Epoch):
		return !newer
	default:
		return false
	}
}

// with returns the state after rendering from these documents.
func (st *state) with(docs []Document, reloadDue bool) state {
	next := state{Services: map[string]seen{}, Left: slices.Clone(st.Left), ReloadDue: reloadDue}
	for _, d := range docs {
		next.Services[d.Service] = seen{d.Epoch, d.Version, d.IssuedAt}
		if have := st.Services[d.Service].Epoch; have != "" && have != d.Epoch && !slices.Contains(next.Left, have) {
			next.Left = append(next.Left, have)
		}
	}
	next.Left = slices.DeleteFunc(next.Left, func(e string) bool {
		return slices.ContainsFunc(docs, func(d Document) bool { return d.Epoch == e })
	})
	if over := len(next.Left) - maxLeft; over > 0 {
		next.Left = next.Left[over:]
	}
	return next
}

// same reports whether nothing would change.
func (st *state) same(next state) bool {
	a, err1 := json.Marshal(st)
	b, err2 := json.Marshal(next)
	return err1 == nil && err2 == nil && string(a) == string(b)
}

// lock keeps other renderers away from the group while this one works on it. The lock is of
// a file that others cannot open, and so cannot hold; the kernel gives it back when this
// process ends.
func (g *Group) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(g.stateFile()+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, conf.Errorf(conf.CodeDenied, "cannot write into the directory: %w", err).WithHint("render as a user that may, such as the one of before")
	}
	unlock = func() { _ = f.Close() }
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return unlock, nil // or a file system without locks: there is no other renderer, as far as can be known
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			unlock()
			return nil, ctx.Err()
		}
	}
}
