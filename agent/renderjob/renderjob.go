package renderjob

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/localapi/render"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/trust"
	"github.com/holdfast-config/holdfast/replication/view"
)

// Options set up a Job.
type Options struct {
	Path string // of render.yaml; "" = nothing is rendered
	View *documents.View
	// Secrets says which stored secrets could not be opened: without them no file with
	// secrets is written.
	Secrets *documents.Secrets
	// OwnVersions says that versions are the agent's own count, which begins again when it
	// loses its files.
	OwnVersions bool
	Logger      *slog.Logger
}

// Job renders files from a view. The zero of a pointer renders nothing.
type Job struct{ job *render.Job }

// New returns a Job, nil without a path.
func New(o Options) *Job {
	if o.Path == "" {
		return nil
	}
	return &Job{render.NewJob(render.Options{Path: o.Path, Source: source{o}, Trusted: trust.Self, Logger: o.Logger})}
}

// Run renders until ctx ends.
func (j *Job) Run(ctx context.Context) {
	if j != nil {
		j.job.Run(ctx)
	}
}

// Err returns what is wrong with the files, nil for nothing.
func (j *Job) Err() error {
	if j == nil {
		return nil
	}
	return j.job.Err()
}

// Register adds the metrics of the job.
func (j *Job) Register(r *prometheus.Registry) {
	if j != nil {
		r.MustRegister(j.job)
	}
}

// source is a view as a render.Source.
type source struct{ o Options }

// Read reads all services from one snapshot.
func (s source) Read(_ context.Context, services []string, secrets bool) (docs []render.Document, err error) {
	snap := s.o.View.Load()
	for _, service := range services {
		e, ok := snap.Get(service)
		if !ok || !e.Record.Exists() {
			return nil, conf.Errorf(conf.CodeNotFound, "there is no configuration of %s", service).WithHint("add a schema for it, or correct the name in render.yaml")
		}
		if secrets && s.o.Secrets.IsIncomplete(e.Record) {
			return nil, conf.Errorf(conf.CodeUnsupported, "this agent cannot open all secrets of %s", service).WithHint("see: holdfast health")
		}
		d := render.Document{
			Service: service, Epoch: e.Record.Epoch, Version: e.Record.Version, Replica: snap.Source == view.SourceReplica,
		}
		if s.o.OwnVersions {
			d.IssuedAt = e.Record.IssuedAt
		}
		if d.Config, err = e.Doc.Config(secrets); err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// Rendered marks what is in the files as read.
func (s source) Rendered(docs []render.Document) {
	for _, d := range docs {
		if e, ok := s.o.View.Get(d.Service); ok && e.Record.Version == d.Version && e.Record.Epoch == d.Epoch {
			e.Doc.MarkRead("")
		}
	}
}

// Watch follows each of the services.
func (s source) Watch(ctx context.Context, services []string, _ bool, changed func()) {
	var following sync.WaitGroup
	for _, service := range services {
		following.Go(func() { s.follow(ctx, service, changed) })
	}
	following.Wait()
}

func (s source) follow(ctx context.Context, service string, changed func()) {
	for {
		var next <-chan struct{}
		if e, ok := s.o.View.Get(service); ok {
			next = e.Changed()
		} else {
			next = s.o.View.Missing(service)
		}
		changed() // at first too: it may have changed since it was read
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}
