package staged

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// showAll lists the rollouts.
func showAll(ctx context.Context, a *cli.App, c *client.Client) error {
	list, err := c.Rollouts(ctx, "", 100)
	if err != nil {
		return err
	}
	if a.AsJSON() {
		return a.PrintJSON(list)
	}
	if len(list) == 0 {
		a.Note("there is none: holdfast rollout start SERVICE KEY=VALUE --preset canary begins one")
		return nil
	}
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.ID, state(r), fmt.Sprintf("%d of %d", r.Step, len(r.Steps)), fmt.Sprint(r.Candidate), r.Since, r.StartedBy, cli.Brief(r.Summary, 70)})
	}
	return a.Table([]string{"ROLLOUT", "STATE", "STEP", "VERSION", "SINCE", "BY", ""}, rows)
}

func state(r conf.RolloutInfo) string {
	if r.State == conf.RolloutRunning && r.Phase != "" {
		return r.Phase
	}
	return r.State
}

// show is one rollout, with its steps and instances.
func show(a *cli.App, r conf.RolloutInfo) error {
	if a.AsJSON() {
		return a.PrintJSON(r)
	}
	a.Say("%s: %s", r.ID, cli.Clean(r.Summary))
	a.Say("%s", cli.Clean(about(r)))
	if !r.Complete {
		a.Note("not all is known: %s", cli.Clean(r.Why))
	}
	if r.Ended() {
		return nil
	}
	var rows [][]string
	for i, s := range r.Steps {
		now, targets := "", ""
		switch {
		case i+1 == r.Step:
			now, targets = state(r), fmt.Sprint(s.Targets)
		case s.Begun:
			now, targets = "done", fmt.Sprint(s.Targets)
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), who(s.RolloutStep), s.Bake, targets, now})
	}
	a.Say("")
	if err := a.Table([]string{"STEP", "INSTANCES", "BAKE", "HAVE IT", "STATE"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, i := range r.Instances {
		rows = append(rows, []string{i.Instance.Instance, fmt.Sprint(i.Version), strings.ReplaceAll(i.Verdict, "_", " "), string(i.Status), i.Health, cli.Brief(i.Reason, 60)})
	}
	if rows == nil {
		return nil
	}
	a.Say("")
	return a.Table([]string{"INSTANCE", "VERSION", "VERDICT", "STATUS", "HEALTH", "REASON"}, rows)
}

// about is who began it and why, and how it ended.
func about(r conf.RolloutInfo) string {
	text := fmt.Sprintf("version %d of %s, by %s at %s", r.Candidate, r.Service, r.StartedBy, r.StartedAt)
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	if r.Ended() {
		text += fmt.Sprintf("; ended by %s at %s", r.EndedBy, r.EndedAt)
	}
	return text
}

// who is the instances of a step, as --steps has them.
func who(s conf.RolloutStep) string {
	switch {
	case s.Count > 0:
		return fmt.Sprint(s.Count)
	case len(s.Labels) > 0:
		var out []string
		for _, k := range conf.SortedKeys(s.Labels) {
			out = append(out, k+"="+s.Labels[k])
		}
		return strings.Join(out, " and ")
	case len(s.Instances) > 0:
		return cli.Brief(strings.Join(s.Instances, " "), 40)
	case s.Percent == 100:
		return "all"
	default:
		return fmt.Sprintf("%g%%", s.Percent)
	}
}
