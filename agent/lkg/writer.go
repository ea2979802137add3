package lkg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// Provider provides the content of a Writer. Next waits for content with an Index
// above after, or of another epoch than its last result, and returns the newest. It
// returns ctx's error when ctx ends first. Run calls it on one goroutine, Flush on
// those of its callers.
type Provider interface {
	Next(ctx context.Context, after uint64) (*Content, error)
}

// WriterOptions configures a Writer. The zero value is valid.
type WriterOptions struct {
	Loaded      *Content      // result of Load at start; nil for none
	MinInterval time.Duration // between two writes, default 250 ms: each syncs the disk of the Raft log
	MaxBackoff  time.Duration // between two attempts while writes fail, default 10 s
	CheckEvery  time.Duration // interval of checks for changes by other processes, default 10 s
}

// Status is the status of the file on the disk.
type Status struct {
	Valid   bool      // Load accepts the file, as far as this process knows
	Err     error     // of the last attempt to write, nil when it succeeded
	Written time.Time // time of the file's content; zero without a valid file
	Index   uint64    // log index of the file's content
}

// Writer keeps the file up to date. NewWriter creates one.
type Writer struct {
	path     string
	provider Provider
	log      *slog.Logger
	opts     WriterOptions
	writing  chan struct{} // semaphore, held while the file is written

	mu     sync.Mutex
	status Status
	key    []byte
	epoch  string      // of the file's content
	info   fs.FileInfo // the file that this process wrote or loaded
}

// dutyCycle limits the share of time that Run spends writing to 1/dutyCycle.
const dutyCycle = 10

// flushTimeout is how long Flush waits for the provider, which returns at once when it
// has content.
const flushTimeout = 200 * time.Millisecond

// NewWriter returns a Writer of the file path; it does not touch the file.
func NewWriter(path string, key []byte, source Provider, log *slog.Logger, opts WriterOptions) *Writer {
	if opts.MinInterval <= 0 {
		opts.MinInterval = 250 * time.Millisecond
	}
	if opts.MaxBackoff <= 0 {
		opts.MaxBackoff = 10 * time.Second
	}
	if opts.CheckEvery <= 0 {
		opts.CheckEvery = 10 * time.Second
	}
	w := &Writer{path: path, key: key, provider: source, log: log, opts: opts, writing: make(chan struct{}, 1)}
	if c := opts.Loaded; c != nil {
		w.opts.Loaded = nil // it may be large
		if info, err := os.Stat(path); err == nil {
			w.info, w.epoch = info, c.Epoch
			w.status = Status{Valid: true, Written: c.GeneratedAt, Index: c.Index}
		}
	}
	return w
}

// Run writes content that is newer than the file's, until ctx ends. It retries after
// errors; Status has the last one.
func (w *Writer) Run(ctx context.Context) {
	if err := durable.RemoveTemps(w.path); err != nil {
		w.log.Warn("cannot remove temporary files", "path", w.path, "err", err)
	}
	backoff := w.opts.MinInterval
	for pause := time.Duration(0); sleep(ctx, pause); {
		w.tryCheckFile()
		c, err := w.next(ctx)
		var took time.Duration
		if c != nil && err == nil {
			start := time.Now()
			err = w.save(ctx, c)
			took = time.Since(start)
		}
		if ctx.Err() != nil {
			return
		}
		if w.report(err); err != nil {
			pause = backoff
			backoff = min(2*backoff, w.opts.MaxBackoff)
			continue
		}
		backoff = w.opts.MinInterval
		if pause = 0; c != nil {
			pause = w.pauseAfter(took)
		}
	}
}

// pauseAfter returns the pause after a write that took this long.
func (w *Writer) pauseAfter(took time.Duration) time.Duration {
	return max(w.opts.MinInterval, (dutyCycle-1)*took)
}

// next waits for newer content than the file's. It returns none when it is time to
// check the file.
func (w *Writer) next(ctx context.Context) (*Content, error) {
	tick, cancel := context.WithTimeout(ctx, w.opts.CheckEvery)
	defer cancel()
	c, err := w.provider.Next(tick, w.Status().Index)
	if err != nil && tick.Err() != nil && errors.Is(err, tick.Err()) {
		return nil, nil
	}
	if err == nil && c == nil {
		err = conf.Errorf(conf.CodeInternal, "the source of the last-known-good file has no content")
	}
	return c, err
}

// Flush writes the newest content, unless the file has it, and returns when it is
// durable. It does not wait for a provider without content, such as that of an agent
// whose replica is not open.
func (w *Writer) Flush(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	c, err := w.provider.Next(ask, 0)
	if err != nil {
		if ctx.Err() == nil && ask.Err() != nil {
			return nil
		}
		return err
	}
	err = w.save(ctx, c)
	if ctx.Err() == nil {
		w.report(err)
	}
	return err
}

// Rekey sets the key of the file, and reports whether it has changed. If so, the file
// is invalid until Run or Flush writes it again.
func (w *Writer) Rekey(key []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes.Equal(w.key, key) {
		return false
	}
	w.key = bytes.Clone(key)
	w.status.Valid, w.status.Index = false, 0
	return true
}

// Save writes c, unless the file has it or newer content of its epoch, and returns
// when it is durable. A caller that must not serve what a restart would lose calls it
// first.
func (w *Writer) Save(ctx context.Context, c *Content) error {
	err := w.save(ctx, c)
	if ctx.Err() == nil {
		w.report(err)
	}
	return err
}

// Status returns the status of the file.
func (w *Writer) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// save writes c after other writes in progress. It returns early when ctx ends, since
// a write to a disk that hangs cannot be interrupted.
func (w *Writer) save(ctx context.Context, c *Content) error {
	select {
	case w.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-w.writing }()
		done <- w.write(c)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write replaces the file unless it has c, or newer content. The caller holds
// w.writing.
func (w *Writer) write(c *Content) error {
	w.checkFile()
	w.mu.Lock()
	current := w.status.Valid && w.epoch == c.Epoch && w.status.Index >= c.Index
	key := w.key
	w.mu.Unlock()
	if current {
		return nil
	}
	if c.GeneratedAt.IsZero() {
		stamped := *c
		stamped.GeneratedAt = time.Now()
		c = &stamped
	}
	info, err := replaceFile(w.path, 0o600, func(out io.Writer) error { return Encode(out, key, c) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if info != nil { // the new file is in place, durable or not
		w.info, w.epoch = info, c.Epoch
		w.status = Status{Valid: true, Written: c.GeneratedAt, Index: c.Index, Err: w.status.Err}
		if !bytes.Equal(w.key, key) { // Rekey came in between
			w.status.Valid, w.status.Index = false, 0
		}
	}
	return err
}

// tryCheckFile is checkFile unless the file is being written.
func (w *Writer) tryCheckFile() {
	select {
	case w.writing <- struct{}{}:
		w.checkFile()
		<-w.writing
	default:
	}
}

// checkFile detects that another process removed or changed the file. The caller holds
// w.writing.
func (w *Writer) checkFile() {
	w.mu.Lock()
	was := w.info
	w.mu.Unlock()
	if was == nil {
		return
	}
	now, err := os.Stat(w.path) // without the lock: the disk may hang, Status must not
	if err == nil && os.SameFile(now, was) && now.Size() == was.Size() && now.ModTime().Equal(was.ModTime()) {
		return
	}
	w.mu.Lock()
	w.info = nil
	w.status = Status{Err: conf.Errorf(conf.CodeCorrupt, "last-known-good file %s was removed or changed by another process", w.path)}
	w.mu.Unlock()
	w.log.Warn("last-known-good file was removed or changed by another process, writing it again", "path", w.path)
}

// report sets err in Status, and logs when writes start or stop failing.
func (w *Writer) report(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.status.Err
	switch {
	case err == nil && w.info == nil && was != nil:
		return // the file is missing and was not written since
	case err == nil && was != nil:
		w.log.Info("last-known-good file is written again", "path", w.path, "index", w.status.Index)
	case err != nil && (was == nil || was.Error() != err.Error()):
		w.log.Error("cannot write the last-known-good file", "path", w.path, "err", err, "hint", conf.HintOf(err))
	}
	w.status.Err = err
}

// sleep waits for d, and reports whether ctx is still active.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
