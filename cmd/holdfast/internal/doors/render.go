package doors

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/localapi/render"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Render returns the command holdfast render.
func Render(a *cli.App) *cobra.Command {
	var path string
	var once, dry, diff bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Write configurations into files, and keep them up to date",
		Long: `Write configurations into files, in a format or through a template, as a local
render.yaml says, and again at each change. What cannot be rendered, or fails its check,
keeps the old files.

An agent does the same by itself with CONFIG_RENDER=render.yaml.`,
		Example: `  holdfast render -f /etc/holdfast/render.yaml
  holdfast render --once
  holdfast render --dry-run --diff`,
		Args: cli.Needs(),
	}
	f := cmd.Flags()
	f.StringVarP(&path, "file", "f", "", "the `FILE` that says what to render (default: CONFIG_RENDER, else render.yaml)")
	f.BoolVar(&once, "once", false, "render once and exit")
	f.BoolVar(&dry, "dry-run", false, "render and check, and say what would be written; write nothing, reload nothing")
	f.BoolVar(&diff, "diff", false, "show how the files would change; write nothing, reload nothing")
	f.DurationVar(&wait, "wait", 30*time.Second, "with the three above: wait this long for the configuration")
	cmd.MarkFlagsMutuallyExclusive("once", "dry-run")
	cmd.MarkFlagsMutuallyExclusive("once", "diff")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := a.Options()
		if err != nil {
			return err
		}
		path = cmp.Or(path, o.Render, "render.yaml")
		trusted := func(uid uint32) bool { return cli.TrustedOwner(a, uid) }
		file, err := render.Load(path, trusted)
		if err != nil {
			return err
		}
		source, err := newAgentSource(a, file)
		if err != nil {
			return err
		}
		r := renderer{a: a, file: file, source: source, wait: wait}
		if once || dry || diff {
			return r.oneShot(cmd.Context(), dry, diff)
		}
		for _, g := range file.Groups {
			if err := g.Place(); err != nil {
				return err
			}
		}
		render.NewJob(render.Options{
			Path: path, Source: source, Trusted: trusted, Logger: slog.New(slog.NewTextHandler(a.Err, nil)),
		}).Run(cmd.Context())
		return nil
	}
	return cmd
}

// renderer is one call of the command.
type renderer struct {
	a      *cli.App
	file   *render.File
	source *agentSource
	wait   time.Duration
}

// oneShot handles each group once. The first error is the command's, after all groups had
// their turn.
func (r *renderer) oneShot(ctx context.Context, dry, diff bool) error {
	var first error
	for _, g := range r.file.Groups {
		err := r.group(ctx, g, dry, diff)
		if err == nil {
			continue
		}
		e := conf.Errorf(conf.CodeOf(err), "%s: %w", g.Name, err)
		if hint := conf.HintOf(err); hint != "" {
			e = e.WithHint("%s", hint)
		}
		if first == nil {
			first = e
			continue
		}
		fmt.Fprintln(r.a.Err, "holdfast render:", cli.Clean(e.Error()))
	}
	return first
}

func (r *renderer) group(ctx context.Context, g *render.Group, dry, diff bool) error {
	docs, err := r.first(ctx, g)
	if err != nil {
		return err
	}
	if diff {
		if err := r.diff(ctx, g, docs); err != nil || !dry {
			return err
		}
	}
	out, err := g.Apply(ctx, docs, dry)
	for _, t := range out.Targets {
		text := "unchanged"
		switch {
		case t.Written:
			text = "written"
		case t.Changed && err == nil && t.New:
			text = "would be made"
		case t.Changed && err == nil:
			text = "would be written"
		case t.Changed:
			text = "as it was"
		}
		r.a.Say("%s: %s", t.Path, text)
	}
	switch {
	case out.Held != "":
		r.a.Say("%s: unchanged: the agent is behind, and its configuration of %s older than the files", g.Name, out.Held)
	case out.Reloaded:
		r.a.Say("%s: reloaded", g.Name)
	case out.Nobody:
		r.a.Say("%s: no process to reload", g.Name)
	}
	return err
}

// first reads the documents, and waits for the agent and the configuration.
func (r *renderer) first(ctx context.Context, g *render.Group) ([]render.Document, error) {
	limited, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	var last error
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		docs, err := r.source.Read(limited, g.Services, g.Secrets)
		if err == nil || permanent(err) {
			return docs, err
		}
		if limited.Err() == nil {
			last = err
		}
		select {
		case <-time.After(pause):
		case <-limited.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if conf.CodeOf(last) == conf.CodeNotFound {
				return nil, last
			}
			return nil, conf.Errorf(conf.CodeReadOnly, "no configuration in %s: %w", r.wait, cmp.Or(last, err)).
				WithHint("is the agent running? --wait sets how long to wait for it")
		}
	}
}

func (r *renderer) diff(ctx context.Context, g *render.Group, docs []render.Document) error {
	var plain []render.Document
	if g.Secrets {
		var err error
		if plain, err = r.source.Read(ctx, g.Services, false); err != nil {
			return err
		}
	}
	list, err := g.Diff(docs, plain)
	for _, d := range list {
		if len(d.Diff) > 0 {
			_, err := r.a.Out.Write(d.Diff)
			if err != nil {
				return err
			}
		}
	}
	return err
}

// agentSource reads from the local API of an agent.
type agentSource struct {
	plain, open *client.Client // open sends the token; nil when no group has secrets
}

func newAgentSource(a *cli.App, f *render.File) (*agentSource, error) {
	s := &agentSource{}
	var err error
	if s.plain, err = a.Local(false); err != nil {
		return nil, err
	}
	for _, g := range f.Groups {
		if g.Secrets && s.open == nil {
			if s.open, err = a.Local(true); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *agentSource) client(secrets bool) (*client.Client, error) {
	switch {
	case !secrets:
		return s.plain, nil
	case s.open == nil:
		return nil, conf.Errorf(conf.CodeDenied, "a group with secrets is new").WithHint("start holdfast render again: it reads the agent's token at its start")
	default:
		return s.open, nil
	}
}

// maxReadings bounds how often several services are read to find them all the same twice.
const maxReadings = 20

// Read reads the services until two readings are the same: then there was a moment at which
// all of them were what was read.
func (s *agentSource) Read(ctx context.Context, services []string, secrets bool) ([]render.Document, error) {
	c, err := s.client(secrets)
	if err != nil {
		return nil, err
	}
	var last []string
	for range maxReadings {
		var docs []render.Document
		var tags []string
		for _, service := range services {
			d, err := c.Document(ctx, service)
			if err != nil {
				return nil, err
			}
			docs = append(docs, render.Document{
				Service: service, Epoch: d.Metadata.Epoch, Version: d.Metadata.Version, IssuedAt: d.Metadata.IssuedAt,
				Replica: d.Source == "replica", Config: d.Config,
			})
			tags = append(tags, d.ETag)
		}
		same := len(last) == len(tags)
		for i := range last {
			same = same && last[i] == tags[i]
		}
		if same || len(services) == 1 {
			return docs, nil
		}
		last = tags
	}
	return nil, conf.Errorf(conf.CodeConflict, "the services change faster than they can be read together").WithHint("it is tried again")
}

// Watch follows each of the services.
func (s *agentSource) Watch(ctx context.Context, services []string, secrets bool, changed func()) {
	c, err := s.client(secrets)
	if err != nil {
		return
	}
	var following sync.WaitGroup
	for _, service := range services {
		following.Go(func() {
			for ctx.Err() == nil {
				for range c.Watch(ctx, service) {
					changed()
				}
				select { // it ended with an error that may last
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
				}
			}
		})
	}
	following.Wait()
}

var _ render.Source = (*agentSource)(nil)
