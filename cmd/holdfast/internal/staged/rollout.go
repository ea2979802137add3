package staged

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/change"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Rollout returns the command holdfast rollout.
func Rollout(a *cli.App) *cobra.Command {
	return cli.Group(
		&cobra.Command{
			Use:   "rollout",
			Short: "Change a service in steps: some instances first",
			Long: `A rollout gives a change to some instances first, and to more of them while they approve.
Where a service refuses it, the agent beside it goes back to the values of before at once,
by itself, and the rollout is rolled back for all.`,
		},
		start(a), status(a),
		move(a, "promote", "Make the candidate stable now, for all", "The steps that are left are skipped. It also ends a pause."),
		move(a, "pause", "Stop a rollout at its step", "The instances that have the candidate keep it."),
		move(a, "resume", "Let a paused rollout go on", "The time for the step begins again."),
		move(a, "abort", "End a rollout: all get the values of before", "The values of before become the next version, for all."),
	)
}

// wait is what the flags of commands that wait say.
type wait struct {
	wait  bool
	limit time.Duration
}

func waitFlags(cmd *cobra.Command) *wait {
	w := &wait{}
	cmd.Flags().BoolVar(&w.wait, "wait", false, "wait for the end: exit code 0 when it is complete, 9 when it was rolled back, 10 when it is paused")
	cmd.Flags().DurationVar(&w.limit, "timeout", time.Hour, "how long to wait; the rollout goes on after that")
	return w
}

func start(a *cli.App) *cobra.Command {
	var file, preset, steps, bake, finalBake, reason string
	var version uint64
	cmd := &cobra.Command{
		Use:   "start SERVICE [KEY=VALUE...]",
		Short: "Start one",
		Long: `Change values of a service in steps. KEY=VALUE is as in holdfast set.

--preset canary has one instance first, then 25 %, then all, two minutes each; linear goes
on by 10 %. --steps has steps of its own, with commas between them: a number of instances,
a share such as 25%, or a label such as tier=canary; each with a bake of its own, such as
25%:5m, or that of --bake. All instances are the last step.

-f FILE has the body of POST /api/config/services/SERVICE/rollouts in place of all that.`,
		Example: `  holdfast rollout start stt-worker vad_threshold=0.7 --preset canary --reason "less noise" --wait
  holdfast rollout start stt-worker vad_threshold=0.7 --steps 1,25%:5m --bake 1m
  holdfast rollout start stt-worker -f rollout.json`,
		Args: cli.Needs("SERVICE", "[KEY=VALUE...]"), ValidArgsFunction: a.CompleteService,
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "`FILE` with the body of the request; - for standard input")
	f.StringVar(&preset, "preset", "", "`NAME` of a plan: "+strings.Join(conf.RolloutPresets(), ", "))
	f.StringVar(&steps, "steps", "", "`STEPS` in place of those of a preset: 1,25%:5m,tier=canary")
	f.StringVar(&bake, "bake", "", "`DURATION` that the instances of a step run it before the next one")
	f.StringVar(&finalBake, "final-bake", "", "`DURATION` that all instances run it before it is complete; that of --bake when it is left out")
	f.Uint64Var(&version, "version", 0, "only when the service is at this version, else exit code 4")
	cli.ReasonFlag(cmd, &reason)
	cmd.MarkFlagsMutuallyExclusive("file", "preset")
	cmd.MarkFlagsMutuallyExclusive("file", "steps")
	cmd.MarkFlagsMutuallyExclusive("preset", "steps")
	w := waitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		var req conf.RolloutRequest
		switch {
		case file != "" && len(args) > 1:
			return cli.UsageError(cmd, "-f has the values: leave %s out", args[1])
		case file != "":
			data, err := a.ReadDocument(file, conf.MaxDocument)
			if err != nil {
				return err
			}
			if err := conf.DecodeRollout(data, &req); err != nil {
				return err
			}
		case len(args) == 1:
			return cli.UsageError(cmd, "nothing to change: give KEY=VALUE, or -f FILE")
		case preset == "" && steps == "":
			return cli.UsageError(cmd, "no plan: give --preset canary, or --steps")
		default:
			if req.Patch, err = change.Patch(cmd, c, args[0], args[1:]); err != nil {
				return err
			}
			req.Preset, req.FinalBake = preset, finalBake
			if req.Steps, err = parseSteps(cmd, steps, bake); err != nil {
				return err
			}
			if preset != "" && bake != "" {
				return cli.UsageError(cmd, "--bake is for --steps: a preset has its own")
			}
			if finalBake == "" {
				req.FinalBake = bake
			}
		}
		if cmd.Flags().Changed("version") {
			req.Version = &version
		}
		r, err := c.StartRollout(cmd.Context(), args[0], req, client.Change{Reason: reason})
		if err != nil {
			return err
		}
		if w.wait {
			a.Note("rollout %s: version %d goes out", r.ID, r.Candidate)
			return await(cmd.Context(), a, c, r, w.limit)
		}
		a.Note("to follow it: holdfast rollout status %s --wait", r.ID)
		return show(a, r)
	}
	return cmd
}

// parseSteps reads --steps: 1,25%:5m,tier=canary.
func parseSteps(cmd *cobra.Command, text, bake string) (out []conf.RolloutStep, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		s := conf.RolloutStep{Bake: bake}
		what, own, has := strings.Cut(part, ":")
		if has {
			s.Bake = own
		}
		name, value, label := strings.Cut(what, "=")
		share, isShare := strings.CutSuffix(what, "%")
		switch {
		case label && name != "":
			s.Labels = map[string]string{name: value}
		case isShare:
			s.Percent, err = strconv.ParseFloat(share, 64)
		default:
			s.Count, err = strconv.Atoi(what)
		}
		if err != nil {
			return nil, cli.UsageError(cmd, "%q is not a step", part).WithHint("write a number of instances, a share such as 25%%, or a label such as tier=canary; with a bake: 25%%:5m")
		}
		out = append(out, s)
	}
	return out, nil
}

func status(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [ID|SERVICE]",
		Short: "Show rollouts: those that run first",
		Long: `Show all rollouts, or one with its steps and what each instance makes of it. A service
stands for its newest rollout.`,
		Example: `  holdfast rollout status
  holdfast rollout status stt-worker --wait`,
		Args: cli.Needs("[ID|SERVICE]"), ValidArgsFunction: a.CompleteService,
	}
	w := waitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.Admin(conf.RoleRead)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			if w.wait {
				return cli.UsageError(cmd, "--wait needs a rollout, or a service")
			}
			return showAll(cmd.Context(), a, c)
		}
		id, err := idOf(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		r, err := c.Rollout(cmd.Context(), id)
		if err != nil {
			return err
		}
		if w.wait {
			return await(cmd.Context(), a, c, r, w.limit)
		}
		return show(a, r)
	}
	return cmd
}

var rolloutID = regexp.MustCompile(`-\d+-[0-9a-f]{6}$`)

// idOf is the id of a rollout: what was given, or that of the newest one of a service.
func idOf(ctx context.Context, c *client.Client, arg string) (string, error) {
	if rolloutID.MatchString(arg) {
		return arg, nil
	}
	list, err := c.Rollouts(ctx, arg, 1)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", conf.Errorf(conf.CodeNotFound, "%s has no rollout", arg).WithHint("holdfast rollout status lists all; holdfast rollout start %s begins one", arg)
	}
	return list[0].ID, nil
}

func move(a *cli.App, what, short, long string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: what + " ID|SERVICE", Short: short, Long: short + ". " + long,
		Example: fmt.Sprintf("  holdfast rollout %s stt-worker --reason \"as agreed\"", what),
		Args:    cli.Needs("ID|SERVICE"), ValidArgsFunction: a.CompleteService,
	}
	cli.ReasonFlag(cmd, &reason)
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		id, err := idOf(ctx, c, args[0])
		if err != nil {
			return err
		}
		r, err := c.MoveRollout(ctx, id, what, client.Change{Reason: reason})
		if err != nil {
			return err
		}
		return show(a, r)
	})
	return cmd
}

// await shows how a rollout goes on until it ends or pauses.
func await(ctx context.Context, a *cli.App, c *client.Client, r conf.RolloutInfo, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	told := ""
	for !r.Ended() && r.State != conf.RolloutPaused {
		if text := fmt.Sprint(r.Step, r.Phase, counts(r)); text != told {
			told = text
			a.Note("%s", cli.Clean(r.Summary))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return conf.Errorf(conf.CodeStale, "the rollout %s is not at its end yet, and goes on", r.ID).WithHint("holdfast rollout status %s", r.ID)
		}
		now, err := c.Rollout(ctx, r.ID)
		switch {
		case err == nil:
			r = now
		case conf.CodeOf(err) == conf.CodeDenied || conf.CodeOf(err) == conf.CodeUnauthenticated || conf.CodeOf(err) == conf.CodeNotFound:
			return err
		} // else there is no leader for a moment, or the agent begins again
	}
	if err := show(a, r); err != nil {
		return err
	}
	switch r.State {
	case conf.RolloutCompleted:
		return nil
	case conf.RolloutRolledBack:
		return cli.QuietExit(cli.ExitReverted)
	case conf.RolloutPaused:
		a.Note("decide: holdfast rollout resume|promote|abort %s", r.ID)
		return cli.QuietExit(cli.ExitPaused)
	default:
		return cli.QuietExit(cli.ExitConflict)
	}
}

// counts is how many instances have which verdict.
func counts(r conf.RolloutInfo) string {
	n := map[string]int{}
	for _, i := range r.Instances {
		n[i.Verdict]++
	}
	text, _ := json.Marshal(n)
	return string(text)
}
