package process

import (
	"io"
	"log/slog"

	"github.com/holdfast-config/holdfast/agent/options"
)

// handler is the handler of an agent's logger. It has what writes the lines.
type handler struct {
	slog.Handler
	out *LogWriter
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.out}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.out}
}

// DroppedLines returns how many lines the LogWriter of the logger, if it has one, dropped.
func DroppedLines(l *slog.Logger) uint64 {
	if h, ok := l.Handler().(handler); ok {
		return h.out.Dropped()
	}
	return 0
}

// NewLogger makes the logger that o asks for. A LogWriter logs with it that it dropped
// lines, and has one level, the last one, for all of its loggers.
func NewLogger(o options.Options, w io.Writer) (*slog.Logger, error) {
	name, err := o.Level()
	if err != nil {
		return nil, err
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return nil, err
	}
	ho := &slog.HandlerOptions{Level: l}
	out, ok := w.(*LogWriter)
	if ok {
		out.level.Set(l)
		ho.Level = &out.level
	}
	var h slog.Handler = slog.NewTextHandler(w, ho)
	if o.LogFormat == "json" {
		h = slog.NewJSONHandler(w, ho)
	}
	if !ok {
		return slog.New(h), nil
	}
	log := slog.New(handler{h, out})
	out.OnDrops(func(lines uint64) {
		log.Warn("log lines were dropped", "lines", lines, "hint", "the reader of the log was stuck or gone, or its disk is full")
	})
	return log, nil
}
