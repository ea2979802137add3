package process

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const maxLogQueue = 1 << 20 // bytes that wait for a slow reader of the log

// LogWriter writes to the stderr of an agent without ever blocking a caller: the reader
// of a pipe may be stuck, or gone. Lines that it cannot write, or has no room for, are
// dropped and counted.
type LogWriter struct {
	w       io.Writer
	wake    chan struct{} // there is something to write, of one slot
	dropped atomic.Uint64
	level   slog.LevelVar // of all loggers that write here

	mu      sync.Mutex
	queue   [][]byte
	size    int                // bytes of queue, and of the line that is written now
	busy    bool               // a line is written now
	onDrops func(lines uint64) // logs that lines were dropped; may be nil
	flushed []chan struct{}    // closed when all is written
	closed  bool
}

// NewLogWriter starts to write to w. Close ends it.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{w: w, wake: make(chan struct{}, 1)}
	go l.run()
	return l
}

// Write queues one line. It never blocks and never fails.
func (l *LogWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.size+len(line) > maxLogQueue {
		l.dropped.Add(1)
		return len(line), nil
	}
	l.queue = append(l.queue, bytes.Clone(line))
	l.size += len(line)
	l.wakeUp()
	return len(line), nil
}

func (l *LogWriter) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Dropped returns how many lines were dropped.
func (l *LogWriter) Dropped() uint64 { return l.dropped.Load() }

// OnDrops sets what logs dropped lines when lines can be written again.
func (l *LogWriter) OnDrops(f func(lines uint64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onDrops = f
}

// Unwrap returns the stream that l writes to.
func (l *LogWriter) Unwrap() io.Writer { return l.w }

// Flush waits until all lines are written, at most for the time.
func (l *LogWriter) Flush(most time.Duration) {
	l.mu.Lock()
	if len(l.queue) == 0 && !l.busy {
		l.mu.Unlock()
		return
	}
	done := make(chan struct{})
	l.flushed = append(l.flushed, done)
	l.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// Close drops what comes from now on, and ends the goroutine once the queue is written.
func (l *LogWriter) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wakeUp()
}

func (l *LogWriter) run() {
	reported := uint64(0)
	for range l.wake {
		for line, ok := l.next(0); ok; line, ok = l.next(len(line)) {
			if _, err := l.w.Write(line); err != nil {
				l.dropped.Add(1)
			} else if n := l.dropped.Load(); n > reported && l.report(n-reported) {
				reported = n
			}
		}
		if l.ended() {
			return
		}
	}
}

// next takes the next line, after one of so many bytes is written.
func (l *LogWriter) next(written int) (line []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size -= written
	if l.busy = len(l.queue) > 0; l.busy {
		line, l.queue = l.queue[0], l.queue[1:]
		return line, true
	}
	for _, done := range l.flushed {
		close(done)
	}
	l.flushed, l.queue = nil, nil
	return nil, false
}

// report logs that lines were dropped. It reports whether there was room for that.
func (l *LogWriter) report(lines uint64) bool {
	l.mu.Lock()
	log, room := l.onDrops, maxLogQueue-l.size
	l.mu.Unlock()
	if log == nil || room < 1<<10 {
		return false
	}
	log(lines)
	return true
}

func (l *LogWriter) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed && len(l.queue) == 0
}
