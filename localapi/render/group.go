package render

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// Group is the targets that change together, and the program that reads them. It does not
// change after Load.
type Group struct {
	Name     string
	Services []string
	Secrets  bool // its files show secrets

	single  bool // the dot of its templates is the values of its one service
	targets []*target
	reload  reload
}

// Steps of Apply, in their order.
const (
	StepRead   = "read"
	StepRender = "render"
	StepCheck  = "check"
	StepWrite  = "write"
	StepReload = "reload"
)

// StepError says which step has failed.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// at gives err its step, and the path of the target that it is about.
func at(step string, t *target, err error) error {
	if err == nil {
		return nil
	}
	if t != nil {
		e := conf.Errorf(conf.CodeOf(err), "%s: %w", t.path, err)
		if hint := conf.HintOf(err); hint != "" {
			e = e.WithHint("%s", hint)
		}
		err = e
	}
	return &StepError{step, err}
}

// Outcome is what Apply did, or would do.
type Outcome struct {
	Targets  []Change
	Reloaded bool
	Nobody   bool   // the signal had no process to go to
	Held     string // the service whose document is older than the files, which stay as they are
}

// Change is one target.
type Change struct {
	Path    string
	Changed bool // it differs from what it is to be
	New     bool // there was none
	Written bool // it was replaced
}

// Apply brings the files of the group to what the documents say, and tells the program
// that reads them. dry does all of it but the last: it renames nothing and tells nobody.
func (g *Group) Apply(ctx context.Context, docs []Document, dry bool) (out Outcome, err error) {
	for _, t := range g.targets {
		if err := t.place(); err != nil {
			return out, at(StepWrite, nil, err)
		}
	}
	if !dry {
		unlock, err := g.lock(ctx)
		if err != nil {
			return out, at(StepWrite, nil, err)
		}
		defer unlock()
		for _, t := range g.targets {
			_ = durable.RemoveTemps(t.path) // with the lock they are left over from a kill
		}
		_ = durable.RemoveTemps(g.stateFile())
	}
	have, err := g.readState()
	if err != nil {
		return out, at(StepWrite, nil, err)
	}
	for _, d := range docs {
		if have.older(d) {
			out.Held = d.Service
			if dry || !have.ReloadDue {
				return out, nil
			}
			return out, g.tell(ctx, have, &out)
		}
	}
	outputs, err := g.render(docs)
	defer func() {
		for _, o := range outputs {
			o.discard()
		}
	}()
	if err != nil {
		return out, err
	}
	var changed []*output
	for _, o := range outputs {
		out.Targets = append(out.Targets, Change{Path: o.path, Changed: o.changes(), New: o.old == nil})
		if o.changes() {
			changed = append(changed, o)
		}
	}
	if err := g.check(ctx, changed); err != nil || dry {
		return out, err
	}
	return out, g.replace(ctx, &have, docs, changed, &out)
}

// render renders all targets.
func (g *Group) render(docs []Document) (outputs []*output, err error) {
	r := reading{}
	for _, d := range docs {
		doc, err := conf.ParseObject(d.Config, max(len(d.Config), conf.MaxDocument))
		if err != nil {
			return nil, at(StepRead, nil, err)
		}
		r[d.Service] = doc
	}
	for _, t := range g.targets {
		o, err := t.render(r, g.single)
		if err != nil {
			return nil, at(StepRender, t, err)
		}
		outputs = append(outputs, o)
	}
	return outputs, nil
}

// check writes the new files under other names and checks them.
func (g *Group) check(ctx context.Context, changed []*output) error {
	for _, o := range changed {
		if err := o.write(); err != nil {
			return at(StepWrite, o.target, err)
		}
	}
	for _, o := range changed {
		if len(o.target.check) == 0 {
			continue
		}
		argv := make([]string, len(o.target.check))
		for i, a := range o.target.check {
			argv[i] = pathArgument.ReplaceAllLiteralString(a, o.temp)
		}
		c := command{argv: argv, dir: o.dir, timeout: checkTimeout, check: true, hidden: g.Secrets, show: strings.NewReplacer(o.temp, o.path)}
		if err := c.run(ctx); err != nil {
			return at(StepCheck, o.target, err)
		}
	}
	return nil
}

// replace renames all, and then tells the program. That it is due is written down before
// the first rename, or a kill in between would leave the program with the old files.
func (g *Group) replace(ctx context.Context, have *state, docs []Document, changed []*output, out *Outcome) error {
	due := (have.ReloadDue || len(changed) > 0) && !g.reload.none()
	next := have.with(docs, due)
	if !have.same(next) {
		if err := g.writeState(next); err != nil {
			return at(StepWrite, changed1(changed), err)
		}
	}
	for _, o := range changed {
		if err := o.rename(); err != nil {
			return at(StepWrite, o.target, err)
		}
		for i := range out.Targets {
			out.Targets[i].Written = out.Targets[i].Written || out.Targets[i].Path == o.path
		}
	}
	if !due {
		return nil
	}
	return g.tell(ctx, next, out)
}

// tell runs the reload that is due, and writes down that it was.
func (g *Group) tell(ctx context.Context, st state, out *Outcome) error {
	switch err := g.reload.tell(ctx, g.Secrets); {
	case errors.Is(err, errNobody):
		out.Nobody = true
	case err != nil:
		return at(StepReload, nil, err)
	default:
		out.Reloaded = true
	}
	st.ReloadDue = false
	return at(StepWrite, nil, g.writeState(st))
}

func changed1(changed []*output) *target {
	if len(changed) == 0 {
		return nil
	}
	return changed[0].target
}

// Place checks that files can be renamed to all targets.
func (g *Group) Place() error {
	for _, t := range g.targets {
		if err := t.place(); err != nil {
			return err
		}
	}
	return nil
}

// Difference is how a target differs from what it is to be.
type Difference struct {
	Path string
	Diff []byte // unified; nil when it is the same
}

// Diff compares the files with what the documents say. plain are the documents without
// secrets: no line shows a secret, nor one that the old file may have.
func (g *Group) Diff(docs, plain []Document) ([]Difference, error) {
	outputs, err := g.render(docs)
	if err != nil {
		return nil, err
	}
	var masked []*output
	if g.Secrets {
		// What cannot be rendered without the secrets is shown without text.
		if m, err := maskSecrets(docs, plain); err == nil {
			masked, _ = g.render(m)
		}
	}
	var out []Difference
	for i, o := range outputs {
		d := Difference{Path: o.path}
		var old []byte
		if o.old != nil {
			old = o.old.data
		}
		switch {
		case bytes.Equal(old, o.data) && o.old != nil:
		case !g.Secrets:
			d.Diff = diff(o.path, old, o.data)
		case masked != nil:
			d.Diff = hiddenDiff(o.path, old, o.data, masked[i].data)
		default:
			d.Diff = hiddenDiff(o.path, old, o.data, nil)
		}
		out = append(out, d)
	}
	return out, nil
}
