package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	planFormat  = "holdfast-plan"
	planVersion = 1
)

// plan is what apply would do. Its form is that of the file of --out.
type plan struct {
	Format   string     `json:"format"`
	Version  int        `json:"version"`
	Epoch    string     `json:"config_epoch"`
	MadeAt   string     `json:"made_at"`
	Files    string     `json:"files"` // hash of the directory
	Prune    bool       `json:"prune"`
	Services []*service `json:"services"`
	Profiles []*profile `json:"profiles"`
	Unknown  []string   `json:"not_in_files,omitempty"` // services and profiles that only the cluster has
}

// Actions of a plan.
const (
	create = "create"
	change = "change"
	remove = "delete"
)

// service is what a plan does with one service.
type service struct {
	Service string         `json:"service"`
	Action  string         `json:"action"`
	Base    uint64         `json:"version"`          // that it changes; 0: a new service
	Schema  bool           `json:"schema,omitempty"` // its schema is new or changes
	Changes []values.Delta `json:"changes"`          // of what the service reads, without secrets
	Secrets []string       `json:"secrets,omitempty"`

	draft      conf.Draft
	onlySchema bool
}

// profile is what a plan does with one profile.
type profile struct {
	Profile string `json:"profile"`
	Action  string `json:"action"`

	is conf.Profile
}

func (p *plan) empty() bool { return len(p.Services) == 0 && len(p.Profiles) == 0 }

// planner compares a directory with the cluster.
type planner struct {
	a      *cli.App
	c      *client.Client
	dir    *directory
	prune  bool
	resend bool // secrets from the environment, also when they are set
	// forApply: a variable that is not set is an error. A plan only says so.
	forApply bool

	failed []error
}

// run returns the plan. Services that the cluster would reject are reported, all of them.
func (p *planner) run(ctx context.Context) (*plan, error) {
	h, err := p.c.Health(ctx)
	if err != nil {
		return nil, err
	}
	out := &plan{
		Format: planFormat, Version: planVersion, Epoch: h.ConfigEpoch, MadeAt: conf.FormatTime(time.Now()),
		Files: p.dir.hash, Prune: p.prune, Services: []*service{}, Profiles: []*profile{},
	}
	listed, err := p.c.Services(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]conf.ServiceInfo{}
	for _, s := range listed {
		known[s.Service] = s
	}
	names := map[string]bool{}
	for name := range p.dir.services {
		names[name] = true
	}
	for name := range p.dir.schemas {
		names[name] = true
	}
	for _, name := range conf.SortedKeys(names) {
		s, err := p.service(ctx, name, known[name])
		if err != nil {
			if !ownFault(err) {
				return nil, err
			}
			p.fail(name, err)
		} else if s != nil {
			out.Services = append(out.Services, s)
		}
	}
	for _, s := range listed {
		if names[s.Service] || s.Version == 0 { // a schema alone
			continue
		}
		if p.prune {
			out.Services = append(out.Services, &service{
				Service: s.Service, Action: remove, Base: s.Version, Changes: []values.Delta{},
				draft: conf.Draft{Service: s.Service, Op: conf.OpDelete, Expect: &s.Version},
			})
		} else {
			out.Unknown = append(out.Unknown, s.Service)
		}
	}
	if err := p.profiles(ctx, out); err != nil {
		return nil, err
	}
	if len(p.failed) > 0 {
		first := p.failed[0]
		if len(p.failed) == 1 {
			return nil, first
		}
		for _, err := range p.failed {
			cli.Report(p.a.Err, err)
		}
		return nil, conf.Errorf(conf.CodeOf(first), "%s cannot be applied; nothing is changed", cli.Plural(len(p.failed), "service")).
			WithHint("correct the files")
	}
	return out, nil
}

func (p *planner) fail(name string, err error) {
	e := conf.Errorf(conf.CodeOf(err), "%s: %w", name, err).WithHint("%s", conf.HintOf(err))
	if cause, ok := errors.AsType[*conf.Error](err); ok {
		e.Details = cause.Details
	}
	p.failed = append(p.failed, e)
}

// ownFault reports whether an error is about one service: the others are looked at, too.
func ownFault(err error) bool {
	switch conf.CodeOf(err) {
	case conf.CodeMalformed, conf.CodeInvalid, conf.CodeTooLarge, conf.CodeNotFound, conf.CodeImmutable, conf.CodeUnsupported:
		return true
	default:
		return false
	}
}

// service plans one service, nil when nothing is to be done.
func (p *planner) service(ctx context.Context, name string, info conf.ServiceInfo) (*service, error) {
	s := &service{Service: name, Action: change, Changes: []values.Delta{}}
	s.draft = conf.Draft{Service: name, Op: conf.OpSchema}
	if want, ok := p.dir.schemas[name]; ok {
		now, err := p.c.Schema(ctx, name)
		if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
			return nil, err
		}
		if !values.Same(now.Schema, want) {
			s.Schema, s.draft.Schema = true, want
		}
	}
	file := p.dir.services[name]
	if file == nil && !s.Schema {
		return nil, nil
	}
	var now conf.ReadResponse
	if info.Version > 0 {
		var err error
		if now, err = p.c.Service(ctx, name); err != nil && conf.CodeOf(err) != conf.CodeNotFound {
			return nil, err
		}
	}
	s.Base = now.Metadata.Version
	if s.Base == 0 {
		s.Action = create
		last, err := p.c.LastVersion(ctx, name) // a deleted service continues its version numbers
		if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
			return nil, err
		}
		s.Base = last
	}
	if file == nil {
		s.onlySchema = true
	} else if err := p.values(ctx, s, file, now); err != nil {
		return nil, err
	}
	if s.draft.Op == conf.OpSchema && !s.Schema {
		return nil, nil
	}
	return s, p.check(ctx, s, now)
}

// values plans the values and the secrets of a service.
func (p *planner) values(ctx context.Context, s *service, file *serviceFile, now conf.ReadResponse) error {
	doc := file.Values
	equal := false
	if now.Metadata.Version > 0 {
		stored, err := p.c.Stored(ctx, s.Service, 0)
		if err != nil {
			return err
		}
		equal = values.Same(stored.Config, doc)
	}
	if len(file.Secrets) > 0 {
		var err error
		if doc, err = p.secrets(ctx, s, file); err != nil {
			return err
		}
	}
	if equal && len(s.Secrets) == 0 {
		s.onlySchema = true
		return nil
	}
	s.draft.Op, s.draft.Document, s.draft.Expect = conf.OpPut, doc, &s.Base
	return nil
}

// secrets returns the document with the secrets that apply sets, and names them in s.
func (p *planner) secrets(ctx context.Context, s *service, file *serviceFile) (json.RawMessage, error) {
	isSet := map[string]bool{}
	infos, err := p.c.Secrets(ctx, s.Service)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return nil, err
	}
	for _, i := range infos {
		isSet[i.Key] = i.Set
	}
	doc, err := object(file.Values)
	if err != nil {
		return nil, err
	}
	for _, key := range conf.SortedKeys(file.Secrets) {
		from := file.Secrets[key]
		if from == secretStored {
			if !isSet[key] && s.Action != create {
				p.a.Note("%s: its secret %s is not set: holdfast secret set %s %s", s.Service, key, s.Service, key)
			}
			continue
		}
		if isSet[key] && !p.resend {
			continue
		}
		variable := strings.TrimPrefix(from, secretEnv)
		value, ok := p.a.LookupEnv(variable)
		if !ok || value == "" {
			if p.forApply {
				return nil, conf.Errorf(conf.CodeInvalid, "its secret %s comes from the variable %s, which is not set", key, variable).
					WithHint("set the variable where holdfast apply runs")
			}
			p.a.Note("%s: its secret %s comes from the variable %s, which is not set here", s.Service, key, variable)
		}
		s.Secrets = append(s.Secrets, key)
		if ok && value != "" {
			put(doc, conf.ResolveKey(key, nil, doc), value)
		}
	}
	return values.Compact(doc)
}

// put sets a value in a document.
func put(doc map[string]any, path conf.Path, value any) {
	for _, name := range path[:len(path)-1] {
		sub, ok := doc[name].(map[string]any)
		if !ok {
			sub = map[string]any{}
			doc[name] = sub
		}
		doc = sub
	}
	doc[path[len(path)-1]] = value
}

// check lets an agent compute the change, and keeps what a service would see of it.
func (p *planner) check(ctx context.Context, s *service, now conf.ReadResponse) error {
	d := s.draft
	d.DryRun = true
	if s.onlySchema && now.Metadata.Version == 0 {
		return nil // there is no document to compare
	}
	would, err := p.c.Do(ctx, d)
	if err != nil {
		return err
	}
	cli.NoteStale(p.a, slices.DeleteFunc(would.Stale, func(st conf.StaleProfile) bool { return p.dir.profiles[st.Profile] != nil }))
	s.Changes, err = values.Compare(now.Config, would.Config)
	return err
}

// profiles plans the profiles.
func (p *planner) profiles(ctx context.Context, out *plan) error {
	listed, err := p.c.Profiles(ctx)
	if err != nil {
		return err
	}
	for _, name := range conf.SortedKeys(p.dir.profiles) {
		want := p.dir.profiles[name]
		action := create
		if slices.ContainsFunc(listed, func(is conf.Profile) bool { return is.Name == name }) {
			now, err := p.c.Profile(ctx, name)
			if err != nil {
				return err
			}
			if now.Description == want.Description && maps.EqualFunc(now.Services, want.Services, values.Same) {
				continue
			}
			action = change
		}
		out.Profiles = append(out.Profiles, &profile{name, action, conf.Profile{Name: name, Description: want.Description, Services: want.Services}})
	}
	for _, is := range listed {
		switch {
		case p.dir.profiles[is.Name] != nil:
		case p.prune:
			out.Profiles = append(out.Profiles, &profile{is.Name, remove, is})
		default:
			out.Unknown = append(out.Unknown, "profile "+is.Name)
		}
	}
	return nil
}
