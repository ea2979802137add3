package served

import "log/slog"

// Retry is one tick of Run.
func (s *Served) Retry() { s.retry() }

// Logger is the log of s.
func (s *Served) Logger() *slog.Logger { return s.log }
