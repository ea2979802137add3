package process

import (
	"io"
	"log/slog"

	"github.com/holdfast-config/holdfast/agent/options"
)

// NewLogger makes the logger with the level and format of o.
func NewLogger(o options.Options, w io.Writer) (*slog.Logger, error) {
	name, err := o.Level()
	if err != nil {
		return nil, err
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return nil, err
	}
	h := &slog.HandlerOptions{Level: l}
	if o.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, h)), nil
	}
	return slog.New(slog.NewTextHandler(w, h)), nil
}
