package replication

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newHCLog gives raft a logger that writes to l. What raft calls information is
// detail to an operator: it arrives one level lower.
func newHCLog(l *slog.Logger) hclog.Logger {
	hl := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	hl.RegisterSink(sink{l})
	return hl
}

type sink struct{ l *slog.Logger }

func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Error:
		to = slog.LevelError
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Trace:
		return
	}
	ctx := context.Background()
	if !s.l.Enabled(ctx, to) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	if name != "" {
		attrs = append(attrs, "part", name)
	}
	for _, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if layout, ok := f[0].(string); ok {
				a = fmt.Sprintf(layout, f[1:]...)
			}
		}
		attrs = append(attrs, a)
	}
	s.l.Log(ctx, to, "raft: "+msg, attrs...)
}
