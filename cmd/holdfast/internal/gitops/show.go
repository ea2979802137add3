package gitops

import (
	"fmt"
	"strings"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// show writes a plan for a person.
func show(a *cli.App, p *plan, dir string) {
	for _, s := range p.Services {
		before := fmt.Sprintf("%s version %d", s.Service, s.Base)
		switch s.Action {
		case create:
			before = s.Service + " (not configured)"
		case remove:
			a.Say("--- %s", before)
			a.Say("+++ %s (deleted)", s.Service)
			continue
		}
		a.Say("--- %s", before)
		a.Say("+++ %s", dir)
		if s.Schema {
			a.Say("  its schema changes")
		}
		values.WriteDeltas(a.Out, s.Changes, a.Colors())
		for _, key := range s.Secrets {
			a.Say("+ %s = %s", cli.Clean(key), conf.Masked)
		}
		if len(s.Changes)+len(s.Secrets) == 0 && !s.Schema {
			a.Say("  only how it is written changes: a default is stored, or no more")
		}
	}
	for _, pr := range p.Profiles {
		a.Say("profile %s: %s", pr.Profile, pr.Action)
	}
	if len(p.Unknown) > 0 {
		a.Note("not in the files, left as they are: %s", strings.Join(p.Unknown, ", "))
		a.Note("to delete them, add --prune; to take them into the files, run holdfast pull -f %s", dir)
	}
}

// sum is what a plan does, in one line.
func sum(p *plan) string {
	if p.empty() {
		return "nothing to change: the cluster has what the files say"
	}
	count := map[string]int{}
	for _, s := range p.Services {
		count[s.Action]++
	}
	var parts []string
	for _, k := range []string{create, change, remove} {
		if count[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", count[k], k))
		}
	}
	out := "services: " + strings.Join(parts, ", ")
	if len(parts) == 0 {
		out = "services: none"
	}
	if n := len(p.Profiles); n > 0 {
		out += fmt.Sprintf("; profiles: %d", n)
	}
	return out
}
