package render

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Source is where documents come from: an agent.
type Source interface {
	// Read returns the documents of the services, in their order and all of one moment, as
	// they are served with or without secrets.
	Read(ctx context.Context, services []string, secrets bool) ([]Document, error)
	// Watch calls changed after each change of one of the services, until ctx ends.
	Watch(ctx context.Context, services []string, secrets bool, changed func())
}

// A Hearer is a Source that wants to know which documents are in the files.
type Hearer interface {
	Rendered(docs []Document)
}

// Options set up a Job.
type Options struct {
	Path    string // of render.yaml
	Source  Source
	Trusted func(uid uint32) bool // whose files may be believed
	Logger  *slog.Logger
}

// Times of a Job.
const (
	quiet       = 200 * time.Millisecond // how long nothing must change before a group is rendered
	maxQuiet    = 2 * time.Second        // and how long to wait for that
	lookAgain   = 2 * time.Second        // at render.yaml and the templates
	firstRetry  = time.Second
	lastRetry   = 2 * time.Minute
	lastReading = 5 * time.Second // between attempts to read
	readGrace   = 10 * time.Second
)

// Job renders all groups of a file, and again at each change of a service, of the file or
// of a template. Make it with NewJob, then call Run once.
type Job struct {
	alarms *alarm.Set // by group, and "file"
	o      Options

	mu      sync.Mutex
	fileErr error // of the last attempt to read the file
	groups  map[string]*progress
}

// progress is how a group is doing.
type progress struct {
	err      error
	step     string    // that failed
	since    time.Time // of the first failure in a row
	held     bool
	written  uint64
	reloads  uint64
	failures map[string]uint64 // by step
	versions map[string]uint64 // by service
}

// NewJob returns a Job. Nothing is read before Run.
func NewJob(o Options) *Job {
	return &Job{o: o, alarms: alarm.NewSet(o.Logger), groups: map[string]*progress{}}
}

// Run renders until ctx ends. What fails is logged, is in Err, and is tried again.
func (j *Job) Run(ctx context.Context) {
	var stop func()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	stamps := "" // of what was read last
	for {
		f, err := Load(j.o.Path, j.o.Trusted)
		j.loaded(f, err)
		read := []string{j.o.Path}
		if err == nil {
			read = f.read
			if stop != nil {
				stop()
			}
			stop = j.start(ctx, f)
		}
		stamps = stampsOf(read)
		for wait := true; wait; {
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
				return
			}
			wait = err == nil && stampsOf(read) == stamps
		}
	}
}

// stampsOf changes when one of the files does.
func stampsOf(paths []string) (out string) {
	for _, p := range paths {
		if fi, err := os.Stat(p); err == nil {
			out += fmt.Sprintf("%s %d %v %d;", p, fi.Size(), fi.Mode(), fi.ModTime().UnixNano())
		}
	}
	return out
}

// loaded records how reading the file went.
func (j *Job) loaded(f *File, err error) {
	j.mu.Lock()
	j.fileErr = err
	if err == nil {
		groups := map[string]*progress{}
		for _, g := range f.Groups {
			p := j.groups[g.Name]
			if p == nil {
				p = &progress{failures: map[string]uint64{}, versions: map[string]uint64{}}
			}
			groups[g.Name] = p
		}
		j.groups = groups
	}
	j.mu.Unlock()
	if err != nil {
		j.alarms.Raise(alarm.RenderUnread, "file", err)
		return
	}
	standing := []string{}
	for _, g := range f.Groups {
		standing = append(standing, "group "+g.Name)
	}
	j.alarms.Only("group ", standing...)
	if !j.alarms.Clear("file", "path", f.Path, "groups", len(f.Groups)) {
		alarm.RenderUnread.Over(j.o.Logger, "path", f.Path, "groups", len(f.Groups))
	}
}

// start runs a goroutine for each group. The returned function ends them.
func (j *Job) start(ctx context.Context, f *File) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var groups sync.WaitGroup
	for _, g := range f.Groups {
		groups.Go(func() { j.follow(ctx, g) })
	}
	return func() {
		cancel()
		groups.Wait()
	}
}

// follow renders one group until ctx ends.
func (j *Job) follow(ctx context.Context, g *Group) {
	news := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		j.o.Source.Watch(ctx, g.Services, g.Secrets, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	})
	for pause := firstRetry; ctx.Err() == nil; {
		err := j.apply(ctx, g)
		var again <-chan time.Time
		if err != nil {
			limit := lastRetry
			if step, ok := errors.AsType[*StepError](err); err == errBehind || ok && step.Step == StepRead {
				limit = lastReading
			}
			pause = min(pause, limit)
			again = time.After(pause/2 + rand.N(pause))
			pause *= 2
		} else {
			pause = firstRetry
		}
		select {
		case <-news:
			settle(ctx, news)
			pause = firstRetry
		case <-again:
		case <-ctx.Done():
		}
	}
}

// settle returns when nothing has changed for a moment.
func settle(ctx context.Context, news <-chan struct{}) {
	end := time.After(maxQuiet)
	for {
		select {
		case <-news:
		case <-time.After(quiet):
			return
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// apply renders a group once, and records how it went.
func (j *Job) apply(ctx context.Context, g *Group) error {
	docs, out, err := Once(ctx, j.o.Source, g, false)
	if ctx.Err() != nil {
		return nil // it was interrupted
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.groups[g.Name]
	if p == nil {
		return err
	}
	log := j.o.Logger.With("group", g.Name)
	for _, t := range out.Targets {
		if t.Written {
			p.written++
			log.Info("render: wrote a file", "path", t.Path)
		}
	}
	if out.Reloaded {
		p.reloads++
		log.Info("render: told the program to read its files again")
	}
	if out.Nobody {
		log.Info("render: there is no process to tell; it reads the files when it starts")
	}
	if err != nil {
		step := StepWrite
		if s, ok := errors.AsType[*StepError](err); ok {
			step = s.Step
		}
		p.failures[step]++
		if p.since.IsZero() {
			p.since = time.Now()
		}
		if step == StepRead && time.Since(p.since) < readGrace && p.err == nil {
			return err // at a start, and while an agent restarts, there is nothing to read for a moment
		}
		p.err, p.step = err, step
		j.alarms.Raise(alarm.RenderFails, "group "+g.Name, err, "group", g.Name)
		return err
	}
	p.err, p.since = nil, time.Time{}
	j.alarms.Clear("group " + g.Name)
	if held := out.Held != ""; held != p.held {
		p.held = held
		if held {
			log.Info("render: the agent is behind the files, which stay until it has caught up", "service", out.Held)
		}
	}
	if p.held {
		return errBehind
	}
	for _, d := range docs {
		p.versions[d.Service] = d.Version
	}
	if h, ok := j.o.Source.(Hearer); ok {
		h.Rendered(docs)
	}
	return nil
}

// errBehind makes follow look again soon. It is no fault.
var errBehind = errors.New("the agent is behind the files")

// Once reads the documents of a group and applies them. dry is as for Apply.
func Once(ctx context.Context, source Source, g *Group, dry bool) (docs []Document, out Outcome, err error) {
	defer func() { // a fault of a function of a template must not end the agent
		if p := recover(); p != nil {
			err = &StepError{StepRender, conf.Errorf(conf.CodeInternal, "the renderer has failed").WithHint("report it; the files stay as they are")}
		}
	}()
	if docs, err = source.Read(ctx, g.Services, g.Secrets); err != nil {
		return nil, out, at(StepRead, nil, err)
	}
	out, err = g.Apply(ctx, docs, dry)
	return docs, out, err
}

// Err returns what is wrong now, nil when all files are as they should be. It quotes nothing
// that a program has printed.
func (j *Job) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fileErr != nil {
		return conf.Errorf(conf.CodeOf(j.fileErr), "the file of CONFIG_RENDER is not used; see the log of this agent")
	}
	for _, name := range conf.SortedKeys(j.groups) {
		if p := j.groups[name]; p.err != nil {
			return conf.Errorf(conf.CodeOf(p.err), "the files of the group %s are not what they should be: the step %q fails; see the log of this agent", name, p.step)
		}
	}
	return nil
}
