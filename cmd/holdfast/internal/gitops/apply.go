package gitops

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// allows reports whether what is to be done now is part of what the plan showed: the rest
// may be done already, by an apply that was interrupted.
func (p *plan) allows(now *plan) error {
	if p.Files != now.Files {
		return conf.Errorf(conf.CodeConflict, "the files are not those of the plan").WithHint("run holdfast plan again, and look at it")
	}
	if p.Epoch != now.Epoch {
		return conf.Errorf(conf.CodeConflict, "the cluster's store was restored or rebuilt since the plan").WithHint("run holdfast plan again, and look at it")
	}
	for _, s := range now.Services {
		i := slices.IndexFunc(p.Services, func(o *service) bool { return o.Service == s.Service })
		if i < 0 || p.Services[i].Action != s.Action || p.Services[i].Base != s.Base || !reflect.DeepEqual(p.Services[i].Changes, s.Changes) {
			return conf.Errorf(conf.CodeConflict, "%s was changed since the plan; nothing is changed", s.Service).
				WithHint("run holdfast plan again, and look at it")
		}
	}
	for _, pr := range now.Profiles {
		if !slices.ContainsFunc(p.Profiles, func(o *profile) bool { return o.Profile == pr.Profile && o.Action == pr.Action }) {
			return conf.Errorf(conf.CodeConflict, "profile %s was changed since the plan; nothing is changed", pr.Profile).
				WithHint("run holdfast plan again, and look at it")
		}
	}
	return nil
}

// applied is the result of apply, as -o json prints it.
type applied struct {
	Services []cli.Change `json:"services"`
	Profiles []*profile   `json:"profiles"`
}

// apply does what a plan says. It goes on after a conflict of one service, and returns the
// first one.
func apply(ctx context.Context, a *cli.App, c *client.Client, p *plan, reason string) error {
	done := applied{Services: []cli.Change{}, Profiles: []*profile{}}
	out := *a
	if a.AsJSON() {
		out.Out = a.Err
	}
	var first error
	n := 0
	fail := func(what string, err error) bool {
		err = conf.Errorf(conf.CodeOf(err), "%s is not applied: %w", what, err).WithHint("%s", conf.HintOf(err))
		if first == nil {
			first = err
		}
		n++
		cli.Report(a.Err, err)
		return ownFault(err) || conf.CodeOf(err) == conf.CodeConflict
	}
	for _, s := range p.Services {
		s.draft.Reason = reason
		change, err := do(ctx, c, s)
		if err != nil {
			if !fail(s.Service, err) {
				break
			}
			continue
		}
		done.Services = append(done.Services, change)
		what := "deleted"
		if s.Action != remove {
			what = "given its schema"
			if change.Version > 0 {
				what = fmt.Sprintf("version %d", change.Version)
			}
		}
		out.Say("%s: %s", s.Service, what)
	}
	for _, pr := range p.Profiles {
		if first != nil && !ownFault(first) && conf.CodeOf(first) != conf.CodeConflict {
			break
		}
		var err error
		if pr.Action == remove {
			err = c.DeleteProfile(ctx, pr.Profile, client.Change{Reason: reason})
		} else {
			_, err = c.ImportProfile(ctx, pr.is, client.Change{Reason: reason})
		}
		if err != nil {
			fail("profile "+pr.Profile, err)
			continue
		}
		done.Profiles = append(done.Profiles, pr)
		what := "saved"
		if pr.Action == remove {
			what = "deleted"
		}
		out.Say("profile %s: %s", pr.Profile, what)
	}
	if a.AsJSON() {
		if err := a.PrintJSON(done); err != nil {
			return err
		}
	}
	if first == nil {
		return nil
	}
	return conf.Errorf(conf.CodeOf(first), "%d of %d changes are not applied", n, len(p.Services)+len(p.Profiles)).
		WithHint("look at holdfast plan, and run it again: what is equal is not written again")
}

// do makes the change of one service.
func do(ctx context.Context, c *client.Client, s *service) (cli.Change, error) {
	if s.onlySchema {
		_, err := c.PutSchema(ctx, s.Service, s.draft.Schema, client.Change{Reason: s.draft.Reason})
		return cli.Change{Service: s.Service, Changed: true}, err
	}
	out, err := c.Do(ctx, s.draft)
	return cli.ChangeOf(out), err
}
