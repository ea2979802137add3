package fallback

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Runner is an agent or an observer that was built.
type Runner interface {
	Run(ctx context.Context) error
}

// Setup says how to start an agent.
type Setup struct {
	Options options.Options
	Damage  error // what is wrong with the .env file of Options; nil for nothing

	// Resolve reads the settings again, for the next attempt.
	Resolve func() (o options.Options, damage, err error)
	// New builds the agent. It leaves what is held open when it fails.
	New    func(ctx context.Context, o options.Options, held *process.Held) (Runner, error)
	Logger *slog.Logger
}

// How long to wait for the next attempt to start. A change of the files ends the wait.
const (
	minPause = time.Second
	maxPause = 10 * time.Second
	look     = 500 * time.Millisecond // at the files
)

// Run starts the agent and runs it until ctx ends. While it cannot start and there is a
// valid last-known-good file, its values are served. Without one the error is returned.
func Run(ctx context.Context, s Setup) error {
	held, err := process.Hold(&s.Options, s.Logger)
	if err != nil {
		return err
	}
	r, err := s.start(ctx, s.Options, s.Damage, held)
	if err != nil && ctx.Err() == nil {
		var f *server
		if f, r = s.serve(ctx, held, err); f != nil && r == nil { // it was asked to stop
			held.Close()
			return nil
		}
	}
	if r == nil {
		held.Close()
		return err
	}
	return r.Run(ctx)
}

func (s *Setup) start(ctx context.Context, o options.Options, damage error, held *process.Held) (Runner, error) {
	if damage != nil {
		return nil, damage
	}
	r, err := s.New(ctx, o, held)
	if err != nil {
		return nil, err // r may be a nil pointer
	}
	return r, nil
}

// serve serves the last-known-good file until the agent starts, or ctx ends. It returns
// the agent, and no server when there is nothing to serve.
func (s *Setup) serve(ctx context.Context, held *process.Held, cause error) (*server, Runner) {
	f, err := newServer(s.Options, s.Logger)
	if err != nil {
		alarm.NothingToServe.Report(s.Logger, "err", err, "hint", conf.HintOf(err))
		return nil, nil
	}
	f.report(cause)
	f.open(held)
	pause := minPause
	for {
		if !s.wait(ctx, pause) {
			f.close(ctx)
			return f, nil
		}
		pause = min(2*pause, maxPause)
		held.Reopen(&s.Options, s.Logger)
		f.serve(held)
		r, err := s.again(ctx, held)
		if err == nil {
			f.close(ctx)
			f.alarms.Only("")
			return f, r
		}
		if ctx.Err() == nil && f.report(err) {
			pause = minPause
		}
	}
}

func (s *Setup) again(ctx context.Context, held *process.Held) (Runner, error) {
	o, damage, err := s.Resolve()
	if err == nil && (o.DataDir != s.Options.DataDir || o.LocalAddr != s.Options.LocalAddr) {
		err = conf.Errorf(conf.CodeUsage, "CONFIG_DATA_DIR or CONFIG_LOCAL_ADDR is another one than at the start").WithHint("restart the agent")
	}
	if err != nil {
		return nil, err
	}
	return s.start(ctx, o, damage, held)
}

// wait returns false when ctx ends, and true when it is time for the next attempt.
func (s *Setup) wait(ctx context.Context, pause time.Duration) bool {
	before := s.stamps()
	due := time.After(pause)
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-due:
			return true
		case <-tick.C:
			if s.stamps() != before {
				return true
			}
		}
	}
}

// stamps change when one of the files changes that a start reads.
func (s *Setup) stamps() (out string) {
	o := &s.Options
	paths := []string{o.EnvFile, o.ClusterFile(), o.LocalTokenFile(), o.DataDir, filepath.Join(o.DataDir, "node-id")}
	tls, _ := filepath.Glob(filepath.Join(o.TLSDir(), "*"))
	for _, p := range append(paths, tls...) {
		if fi, err := os.Stat(p); err == nil {
			out += fmt.Sprintf("%s %d %v %d;", p, fi.Size(), fi.Mode(), fi.ModTime().UnixNano())
		}
	}
	return out
}
