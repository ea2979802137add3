package alarm

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Kind is one alarm: a line of the log of level ERROR, or WARN.
type Kind struct {
	Text string // of the line
	End  string // of the line of level INFO that says that it is over
	Once string // why there is no such line: it tells of an event, not of a state
	Warn bool
}

func (k *Kind) log(l *slog.Logger, args ...any) {
	if k.Warn {
		l.Warn(k.Text, args...)
		return
	}
	l.Error(k.Text, args...)
}

// Report logs an event, or a state whose end another part sees.
func (k *Kind) Report(l *slog.Logger, args ...any) { k.log(l, args...) }

// Over logs that nothing of the kind holds, whether or not it was raised: the process that
// raised it may be another one.
func (k *Kind) Over(l *slog.Logger, args ...any) { l.Info(k.End, args...) }

// Set is what is wrong now with one part of an agent, by what it is wrong with.
type Set struct {
	log *slog.Logger

	mu       sync.Mutex
	standing map[string]standing
}

type standing struct {
	kind  *Kind
	cause string
	args  []any // that name what is wrong; its end has them too
}

// NewSet returns a Set without alarms.
func NewSet(log *slog.Logger) *Set { return &Set{log: log, standing: map[string]standing{}} }

// Raise logs that something is wrong with a subject, unless the same is standing. cause may
// be nil; args name the subject.
func (s *Set) Raise(k *Kind, subject string, cause error, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := standing{kind: k, args: args}
	if cause != nil {
		now.cause = cause.Error()
	}
	if was, ok := s.standing[subject]; ok && was.kind == k && was.cause == now.cause {
		return
	}
	s.standing[subject] = now
	line := slices.Clone(args)
	if cause != nil {
		line = append(line, "err", cause)
		if hint := conf.HintOf(cause); hint != "" {
			line = append(line, "hint", hint)
		}
	}
	k.log(s.log, line...)
}

// Clear logs that nothing is wrong with a subject any more, and reports whether something
// was. more is for that line only.
func (s *Set) Clear(subject string, more ...any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clear(subject, more)
}

func (s *Set) clear(subject string, more []any) bool {
	was, ok := s.standing[subject]
	if !ok {
		return false
	}
	delete(s.standing, subject)
	was.kind.Over(s.log, slices.Concat(was.args, more)...)
	return true
}

// Only clears the subjects that begin with a prefix and are not among those that are still
// wrong. It reports whether there were any.
func (s *Set) Only(prefix string, wrong ...string) (cleared bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.standing) == 0 {
		return false
	}
	for _, subject := range slices.Sorted(maps.Keys(s.standing)) {
		if strings.HasPrefix(subject, prefix) && !slices.Contains(wrong, subject) {
			cleared = s.clear(subject, nil) || cleared
		}
	}
	return cleared
}
