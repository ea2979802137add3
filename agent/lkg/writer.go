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

// Source is where a Writer gets its content. Next waits until there is content
// whose Index is above after, or of another epoch than it returned last, and
// returns the newest. It returns at once when there is some already, and with
// ctx's error when ctx ends first. It is called by one goroutine at a time for
// Run, and by those that call Flush.
type Source interface {
	Next(ctx context.Context, after uint64) (*Content, error)
}

// WriterOptions; the zero value is good.
type WriterOptions struct {
	Loaded      *Content      // what Load made of the file at start; nil when it was refused or absent
	MinInterval time.Duration // between two writes, default 250 ms: each syncs the disk that the log is written to
	MaxBackoff  time.Duration // between two attempts while the disk fails, default 10 s
	CheckEvery  time.Duration // how often to look whether the file is still there and ours, default 10 s
}

// Status tells of the file that is on the disk.
type Status struct {
	Valid   bool      // the file is one that Load accepts, as far as this process knows
	Err     error     // why the newest content could not be written, nil when it could
	Written time.Time // when the file's content was made; zero when there is no valid file
	Index   uint64    // log index of the file's content
}

// Writer keeps the file up to date. Make one with NewWriter.
type Writer struct {
	path   string
	source Source
	log    *slog.Logger
	opts   WriterOptions
	turn   chan struct{} // held while the file is written

	mu     sync.Mutex
	status Status
	key    []byte
	epoch  string      // of the file's content
	info   fs.FileInfo // the file that is ours
}

// dutyCycle bounds the share of time that is spent writing to 1/dutyCycle.
const dutyCycle = 10

// flushPatience is how long Flush waits for a source that answers at once when
// it has anything.
const flushPatience = 200 * time.Millisecond

// NewWriter makes a Writer of the file path; it does not touch the file.
func NewWriter(path string, key []byte, source Source, log *slog.Logger, opts WriterOptions) *Writer {
	if opts.MinInterval <= 0 {
		opts.MinInterval = 250 * time.Millisecond
	}
	if opts.MaxBackoff <= 0 {
		opts.MaxBackoff = 10 * time.Second
	}
	if opts.CheckEvery <= 0 {
		opts.CheckEvery = 10 * time.Second
	}
	w := &Writer{path: path, key: key, source: source, log: log, opts: opts, turn: make(chan struct{}, 1)}
	if c := opts.Loaded; c != nil {
		w.opts.Loaded = nil // it may be large
		if info, err := os.Stat(path); err == nil {
			w.info, w.epoch = info, c.Epoch
			w.status = Status{Valid: true, Written: c.GeneratedAt, Index: c.Index}
		}
	}
	return w
}

// Run writes the newest content whenever there is newer than in the file, until
// ctx ends. Errors are retried; Status tells the last one.
func (w *Writer) Run(ctx context.Context) {
	if err := durable.RemoveTemps(w.path); err != nil {
		w.log.Warn("cannot remove files that were left over", "path", w.path, "err", err)
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

// pauseAfter is how long to wait after a write that took so long.
func (w *Writer) pauseAfter(took time.Duration) time.Duration {
	return max(w.opts.MinInterval, (dutyCycle-1)*took)
}

// next waits for newer content than the file's, or returns none when it is time
// to look at the file.
func (w *Writer) next(ctx context.Context) (*Content, error) {
	tick, cancel := context.WithTimeout(ctx, w.opts.CheckEvery)
	defer cancel()
	c, err := w.source.Next(tick, w.Status().Index)
	if err != nil && tick.Err() != nil && errors.Is(err, tick.Err()) {
		return nil, nil
	}
	if err == nil && c == nil {
		err = conf.Errorf(conf.CodeInternal, "the source of the last-known-good file has no content")
	}
	return c, err
}

// Flush writes the newest content, if the file does not hold it, and returns
// when that is durable. A source that has none to give, such as that of an agent
// whose replica is not up, does not hold it up.
func (w *Writer) Flush(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	c, err := w.source.Next(ask, 0)
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

// Rekey makes key the one that the file is written with, and says whether it is
// another one than before: then the file that is there is not valid until it is
// written anew, which Run or Flush does.
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

// Save writes c, unless the file holds it or newer of its epoch already, and
// returns when that is durable. It is for who must not show what a restart would
// forget.
func (w *Writer) Save(ctx context.Context, c *Content) error {
	err := w.save(ctx, c)
	if ctx.Err() == nil {
		w.report(err)
	}
	return err
}

// Status tells of the file.
func (w *Writer) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// save writes c when its turn comes. It returns early when ctx ends, because a
// disk that hangs cannot be interrupted.
func (w *Writer) save(ctx context.Context, c *Content) error {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-w.turn }()
		done <- w.write(c)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write replaces the file unless it holds c, or newer, already. The caller has
// the turn.
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
	case w.turn <- struct{}{}:
		w.checkFile()
		<-w.turn
	default:
	}
}

// checkFile notices that the file is gone or that somebody else wrote to it. The
// caller has the turn.
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
	w.status = Status{Err: conf.Errorf(conf.CodeCorrupt, "last-known-good file %s was removed or changed by somebody else", w.path)}
	w.mu.Unlock()
	w.log.Warn("last-known-good file was removed or changed by somebody else: writing it anew", "path", w.path)
}

// report keeps err for Status, and logs when writing starts or ends to fail.
func (w *Writer) report(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.status.Err
	switch {
	case err == nil && w.info == nil && was != nil:
		return // nothing was written yet after the file was lost
	case err == nil && was != nil:
		w.log.Info("last-known-good file is written again", "path", w.path, "index", w.status.Index)
	case err != nil && (was == nil || was.Error() != err.Error()):
		w.log.Error("cannot write the last-known-good file", "path", w.path, "err", err, "hint", conf.HintOf(err))
	}
	w.status.Err = err
}

// sleep waits for d, and says whether ctx goes on.
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
