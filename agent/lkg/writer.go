package lkg

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// Provider provides the content of a Writer. Next waits for content with an Index above
// after(), or of another epoch than its last result, and returns the newest. It asks after
// again at each change. It returns ctx's error when ctx ends first. Run calls it on one
// goroutine, Flush on those of its callers.
type Provider interface {
	Next(ctx context.Context, after func() uint64) (*Content, error)
}

// WriterOptions configures a Writer. The zero value is valid.
type WriterOptions struct {
	Refused     error         // why Load did not accept a file that is there; nil for nothing
	Loaded      *Content      // result of Load at start; nil for none
	MinInterval time.Duration // between two writes, default 250 ms: each syncs the disk of the Raft log
	MaxBackoff  time.Duration // between two attempts while writes fail, default 10 s
	CheckEvery  time.Duration // interval of checks for changes by other processes, default 10 s
}

// Status is the status of the file and its journal on the disk.
type Status struct {
	Valid   bool      // Load accepts the file, as far as this process knows
	Err     error     // of the last attempt to write, nil when it succeeded
	Written time.Time // time of the content; zero without a valid file
	Index   uint64    // log index of the content: all changes up to it are there
}

// Writer keeps the file up to date: changes go to the journal by Append, and a new file
// is written when the journal outgrows it, or when something other than Append has changed
// the content. NewWriter creates one.
type Writer struct {
	path     string
	provider Provider
	log      *slog.Logger
	alarms   *alarm.Set
	opts     WriterOptions
	writing  chan struct{} // semaphore, held while the file is written
	journal  *journal
	appended chan struct{} // capacity 1: the journal has records to sync

	mu        sync.Mutex
	status    Status
	key       []byte
	epoch     string      // of the file's content
	fileIndex uint64      // of the file's content, without the journal
	info      fs.FileInfo // the file that this process wrote or loaded
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
	w := &Writer{
		path: path, key: key, provider: source, log: log, alarms: alarm.NewSet(log), opts: opts, writing: make(chan struct{}, 1),
		journal: &journal{path: JournalPath(path)}, appended: make(chan struct{}, 1),
	}
	if opts.Refused != nil {
		w.alarms.Raise(alarm.LKGRefused, "", opts.Refused, "path", path)
	}
	if c := opts.Loaded; c != nil {
		w.opts.Loaded = nil // it may be large
		if info, err := os.Stat(path); err == nil {
			w.info, w.epoch, w.fileIndex = info, c.Epoch, c.Index
			w.status = Status{Valid: true, Written: c.GeneratedAt, Index: c.Index}
			if l := c.Journal; l != nil {
				w.fileIndex = l.baseIndex
				w.journal.continueFrom(l, c.Epoch, key)
				if !bytes.Equal(l.key, key) {
					w.status.Index = 0 // a file of this key, before the other is retired
				}
			}
		}
	}
	return w
}

// Append adds the change that leads from the state at the log index prev to that at
// index: recs are the records that it touched. It is called before readers can see them, on
// one goroutine at a time, and writes no more than them: the end of the process loses
// nothing after it returns. Run makes it durable. What Append cannot write, Run does.
func (w *Writer) Append(epoch string, prev, index uint64, recs []*conf.Record) {
	w.AppendStaged(epoch, prev, index, recs, nil)
}

// AppendStaged is Append of records that have something staged, by service. It reports
// whether the journal has them. A change that this agent makes alone, without an entry of
// the log, has index equal to prev.
func (w *Writer) AppendStaged(epoch string, prev, index uint64, recs []*conf.Record, staged map[string]*Staged) bool {
	now := time.Now()
	ok, err := w.journal.append(epoch, prev, index, recs, staged, now)
	if err != nil {
		w.report(err)
	}
	if !ok {
		return false
	}
	w.mu.Lock()
	if w.status.Valid && w.status.Index >= prev && w.epoch == epoch {
		w.status.Index = max(w.status.Index, index)
		if len(recs) > 0 {
			w.status.Written = now
		}
	}
	w.mu.Unlock()
	if len(recs) > 0 {
		signal(w.appended)
	}
	return true
}

// Sync makes what was appended durable. It returns early when ctx ends, since a sync of a
// disk that hangs cannot be interrupted.
func (w *Writer) Sync(ctx context.Context) error {
	if !w.acquire(ctx) {
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-w.writing }()
		err := w.journal.sync()
		if err == nil && !w.journal.holds() { // a record came in between, or an earlier sync failed
			err = conf.Errorf(conf.CodeInternal, "%s is not synced", w.journal.path)
		}
		if err != nil {
			w.report(err)
			w.mu.Lock()
			w.status.Index = 0 // a new file
			w.mu.Unlock()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runSync makes the journal durable, at most once in MinInterval.
func (w *Writer) runSync(ctx context.Context) {
	for {
		select {
		case <-w.appended:
		case <-ctx.Done():
			return
		}
		if !sleep(ctx, w.opts.MinInterval) || !w.acquire(ctx) {
			return
		}
		err := w.journal.sync()
		<-w.writing
		if err != nil {
			w.report(err)
			w.mu.Lock()
			w.status.Index = 0 // a new file
			w.mu.Unlock()
		}
	}
}

// acquire takes w.writing, and reports whether it has.
func (w *Writer) acquire(ctx context.Context) bool {
	select {
	case w.writing <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run writes content that is newer than the file's, until ctx ends. It retries after
// errors; Status has the last one.
func (w *Writer) Run(ctx context.Context) {
	var syncing sync.WaitGroup
	defer syncing.Wait()
	syncing.Go(func() { w.runSync(ctx) })
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

// next waits for newer content than that of file and journal. It returns none when it is
// time to check the file, and what there is when the journal has outgrown the file.
func (w *Writer) next(ctx context.Context) (*Content, error) {
	tick, cancel := context.WithTimeout(ctx, w.opts.CheckEvery)
	defer cancel()
	c, err := w.provider.Next(tick, w.have)
	if err != nil && tick.Err() != nil && errors.Is(err, tick.Err()) {
		return nil, nil
	}
	if err == nil && c == nil {
		err = conf.Errorf(conf.CodeInternal, "the source of the last-known-good file has no content")
	}
	return c, err
}

// have is the index up to which nothing is to be written: none when a new file is due.
func (w *Writer) have() uint64 {
	if w.journal.due() {
		return 0
	}
	return w.Status().Index
}

func none() uint64 { return 0 }

// Flush writes the newest content, unless the file has it, and returns when it is
// durable. It does not wait for a provider without content, such as that of an agent
// whose replica is not open.
func (w *Writer) Flush(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	c, err := w.provider.Next(ask, none)
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

// Rewrite is Save of content that the file may not have although it has that of its index:
// what this agent alone has changed.
func (w *Writer) Rewrite(ctx context.Context, c *Content) error {
	w.mu.Lock()
	w.status.Index = 0
	w.mu.Unlock()
	return w.Save(ctx, c)
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
	if !w.acquire(ctx) {
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
	current := w.status.Valid && w.epoch == c.Epoch && w.fileIndex >= c.Index && w.status.Index >= c.Index
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
	signature := ""
	info, err := replaceFile(w.path, 0o600, func(f *os.File) (err error) {
		if signature, err = encode(f, key, c); err == nil {
			err = checkSize(f)
		}
		if err == nil {
			err = f.Sync()
		}
		if err == nil {
			err = w.journal.anchor(signature)
		}
		return err
	})
	if info == nil {
		return err
	}
	// The new file is in place, durable or not.
	through, jerr := w.journal.begin(signature, c.Epoch, c.Index, info.Size(), key)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.info, w.epoch, w.fileIndex = info, c.Epoch, c.Index
	w.status = Status{Valid: true, Written: c.GeneratedAt, Index: through, Err: w.status.Err}
	if !bytes.Equal(w.key, key) { // Rekey came in between
		w.status.Valid, w.status.Index = false, 0
	}
	return cmp.Or(err, jerr)
}

// checkSize refuses a file that Load would refuse.
func checkSize(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Size() > MaxFile {
		err = conf.Errorf(conf.CodeTooLarge, "it would have %d bytes, and %d are the limit", info.Size(), int64(MaxFile)).
			WithHint("the configuration of all services together is too large for one agent: use two clusters")
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
		if !w.journal.check() {
			w.log.Warn("last-known-good journal was removed or changed by another process, writing a new file", "path", w.journal.path)
			w.mu.Lock()
			w.status.Index = 0
			w.mu.Unlock()
		}
		return
	}
	w.mu.Lock()
	w.info, w.fileIndex = nil, 0
	w.journal.abandon()
	w.status = Status{Err: conf.Errorf(conf.CodeCorrupt, "last-known-good file %s was removed or changed by another process", w.path)}
	w.mu.Unlock()
	w.alarms.Raise(alarm.LKGChanged, "", nil, "path", w.path)
}

// report sets err in Status, and logs when writes start or stop failing.
func (w *Writer) report(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.status.Err
	switch {
	case err == nil && w.info == nil && was != nil:
		return // the file is missing and was not written since
	case err != nil:
		w.alarms.Raise(alarm.LKGUnwritten, "", err, "path", w.path)
	case w.info != nil:
		w.alarms.Clear("", "index", w.status.Index)
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
