package process

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
)

// gate is a stream whose reader is stuck until it opens; then Write returns err.
type gate struct {
	open  chan struct{}
	began chan struct{} // a write has begun
	once  sync.Once

	mu  sync.Mutex
	err error
	got bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.began) })
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	return g.got.Write(p)
}

func newGate() *gate { return &gate{open: make(chan struct{}), began: make(chan struct{})} }

func TestLogOfAStuckReader(t *testing.T) {
	g := newGate()
	w := NewLogWriter(g)
	defer w.Close()
	log, err := NewLogger(options.Defaults(), w)
	if err != nil {
		t.Fatal(err)
	}
	log = log.With("node", "n1") // keeps the count
	log.Info("first")
	<-g.began
	long := strings.Repeat("x", 1000)
	const lines = 3000
	for range lines {
		log.Info("line", "text", long)
	}
	dropped := DroppedLines(log)
	if dropped < lines/2 || dropped >= lines {
		t.Errorf("%d of %d lines dropped", dropped, lines)
	}
	w.Flush(time.Millisecond) // a stop does not wait for the reader
	close(g.open)
	w.Flush(time.Minute)
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.got.String()
	if strings.Count(out, "msg=line") != lines-int(dropped) || !strings.Contains(out, "log lines were dropped") || DroppedLines(log) != dropped {
		t.Errorf("%d lines came, %d dropped, then %d", strings.Count(out, "msg=line"), dropped, DroppedLines(log))
	}
}

func TestLogOfAReaderThatIsGone(t *testing.T) {
	g := newGate()
	close(g.open)
	g.err = errors.New("broken pipe")
	w := NewLogWriter(g)
	defer w.Close()
	log, err := NewLogger(options.Defaults(), w)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("lost")
	w.Flush(time.Minute)
	if DroppedLines(log) != 1 {
		t.Errorf("%d lines dropped", DroppedLines(log))
	}
	g.mu.Lock()
	g.err = nil
	g.mu.Unlock()
	log.Info("back")
	w.Flush(time.Minute)
	g.mu.Lock()
	defer g.mu.Unlock()
	if out := g.got.String(); !strings.Contains(out, "msg=back") || !strings.Contains(out, "lines=1") {
		t.Errorf("%q", out)
	}
}
