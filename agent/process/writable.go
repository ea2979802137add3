package process

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Writable knows whether the data directory can be written. NewWritable makes one.
type Writable struct {
	dir    string
	alarms *alarm.Set
	err    atomic.Pointer[conf.Error]
}

// NewWritable tries it once.
func NewWritable(dir string, log *slog.Logger) *Writable {
	w := &Writable{dir: dir, alarms: alarm.NewSet(log)}
	w.check()
	return w
}

// Err is why nothing can be written, nil when the last attempt succeeded.
func (w *Writable) Err() error {
	if err := w.err.Load(); err != nil {
		return err
	}
	return nil
}

// Run tries it again and again, until it succeeds or ctx ends.
func (w *Writable) Run(ctx context.Context) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for w.Err() != nil {
		select {
		case <-tick.C:
			w.check()
		case <-ctx.Done():
			return
		}
	}
}

func (w *Writable) check() {
	f, err := os.CreateTemp(w.dir, ".writable-*")
	if err == nil {
		_ = f.Close()
		err = os.Remove(f.Name())
	}
	if err == nil {
		w.err.Store(nil)
		w.alarms.Clear("")
		return
	}
	if pe, ok := err.(*os.PathError); ok { //nolint:errorlint // the name of the file says nothing
		err = pe.Err
	}
	e := conf.Errorf(conf.CodeStorageFull, "the data directory %s cannot be written: %s", w.dir, err).
		WithHint("make the disk and the directory writable for the user of the agent")
	w.err.Store(e)
	w.alarms.Raise(alarm.DirNotWritable, "", e, "dir", w.dir)
}
