package read

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// askEvery is the time between two looks of --wait.
const askEvery = 300 * time.Millisecond

// Instances returns the command holdfast instances.
func Instances(a *cli.App) *cobra.Command {
	var version uint64
	var timeout time.Duration
	var keys bool
	cmd := &cobra.Command{
		Use:   "instances [SERVICE]",
		Short: "Show which instances run which version",
		Long: `Show which instances of a service run which version, what became of it there, and
whether the service is well. Without a SERVICE: a line for each service.

With --wait it returns when all instances have taken that version or a later one: applied
where the service acknowledges, read where it does not. The exit code is then 0; 9 when one
refused it; 1 when the time is over, with what is missing.`,
		Example: `  holdfast instances stt-worker
  holdfast instances stt-worker --wait 8 --timeout 2m
  holdfast instances stt-worker --keys`,
		ValidArgsFunction: a.CompleteService,
	}
	f := cmd.Flags()
	f.Uint64Var(&version, "wait", 0, "wait until all instances have taken this `VERSION`")
	f.DurationVar(&timeout, "timeout", time.Minute, "wait no longer than this")
	f.BoolVar(&keys, "keys", false, "show who reads which key instead")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return cli.UsageError(cmd, "one service at most")
		case len(args) == 0 && (keys || cmd.Flags().Changed("wait")):
			return cli.UsageError(cmd, "--wait and --keys need a SERVICE")
		case cmd.Flags().Changed("wait") && version == 0:
			return cli.UsageError(cmd, "--wait needs a version, such as 8")
		}
		return nil
	}
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, args []string) error {
		if len(args) == 0 {
			return allInstances(ctx, a, c)
		}
		if version != 0 {
			return awaitInstances(ctx, a, c, args[0], version, timeout)
		}
		out, err := c.Instances(ctx, args[0], keys)
		if err != nil {
			return err
		}
		if keys {
			return keyUse.Print(a, out, out.Keys)
		}
		return printInstances(a, out)
	})
	return cmd
}

// allInstances prints the summary of each service.
func allInstances(ctx context.Context, a *cli.App, c *client.Client) error {
	services, err := c.Services(ctx)
	if err != nil {
		return err
	}
	all := []conf.Instances{}
	for _, s := range services {
		out, err := c.Instances(ctx, s.Service, false)
		if err != nil {
			return err
		}
		if len(out.Instances) > 0 {
			all = append(all, out)
		}
	}
	return cli.List[conf.Instances]{
		Columns: []string{"SERVICE", "VERSION", "INSTANCES"},
		Row:     func(i conf.Instances) []string { return []string{i.Service, fmt.Sprint(i.Version), i.Summary} },
		Empty:   "no instance has reported: start the agent beside a service with CONFIG_SERVICE_NAME",
	}.Print(a, map[string]any{"services": all}, all)
}

var instanceTable = cli.List[conf.Instance]{
	Columns: []string{"INSTANCE", "KIND", "VERSION", "STATUS", "SINCE", "HEALTH", "LABELS", "REASON"},
	Row: func(i conf.Instance) []string {
		version := "v" + strconv.FormatUint(i.Version, 10)
		switch {
		case i.HeldBack:
			version += " (held back)"
		case i.Candidate:
			version += " (candidate)"
		}
		return []string{i.Instance, i.Kind, version, string(i.Status), i.Since, i.Health, labelText(i.Labels), reasonText(&i)}
	},
	Empty: "no instance has reported",
}

var keyUse = cli.List[conf.KeyUse]{
	Columns: []string{"KEY", "READERS", "LAST READ"},
	Row: func(k conf.KeyUse) []string {
		name := k.Key
		if name == "" {
			name = "(the whole document)"
		}
		return []string{name, strconv.Itoa(k.Readers), k.LastRead}
	},
	Empty: "nobody has read it since this leader began",
}

func printInstances(a *cli.App, out conf.Instances) error {
	if err := instanceTable.Print(a, out, out.Instances); err != nil || a.AsJSON() {
		return err
	}
	a.Note("%s", cli.Clean(out.Summary))
	if !out.Complete {
		a.Note("not complete: %s", cli.Clean(out.Why))
	}
	return nil
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, name := range conf.SortedKeys(labels) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, ",")
}

func reasonText(i *conf.Instance) string {
	out := i.Reason
	for _, d := range i.Details {
		out += "; " + d.Key + ": " + d.Message
	}
	out = strings.TrimPrefix(out, "; ")
	if i.Refused != 0 {
		out = fmt.Sprintf("refused v%d: %s", i.Refused, out)
	}
	return out
}

// awaitInstances waits until all instances have taken a version.
func awaitInstances(ctx context.Context, a *cli.App, c *client.Client, service string, version uint64, timeout time.Duration) error {
	end := time.NewTimer(timeout)
	defer end.Stop()
	again := time.NewTicker(askEvery)
	defer again.Stop()
	for {
		out, err := c.Instances(ctx, service, false)
		missing := []string{"the agent does not answer"}
		if err == nil {
			var refused bool
			if refused, missing = missingFor(&out, version); refused || len(missing) == 0 {
				if err := printInstances(a, out); err != nil || !refused {
					return err
				}
				return cli.QuietExit(cli.ExitReverted)
			}
		} else if code := conf.CodeOf(err); code != conf.CodeNoQuorum && code != conf.CodeReadOnly && code != conf.CodeInternal && code != conf.CodeRateLimited {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			if err != nil {
				return err
			}
			if err := printInstances(a, out); err != nil {
				return err
			}
			a.Note("not all have taken v%d within %s: %s", version, timeout, cli.Clean(strings.Join(missing, "; ")))
			return cli.QuietExit(cli.ExitError)
		}
	}
}

// missingFor says what is missing until all instances have taken a version, and whether one
// refused it.
func missingFor(out *conf.Instances, version uint64) (refused bool, missing []string) {
	if !out.Complete {
		missing = append(missing, out.Why)
	}
	if len(out.Instances) == 0 {
		missing = append(missing, "no instance has reported")
	}
	for i := range out.Instances {
		n := &out.Instances[i]
		took := slices.Contains([]conf.InstanceStatus{conf.InstanceApplied, conf.InstanceRejected}, n.Status) || n.Status == conf.InstanceRead && !n.Acknowledges
		switch {
		case n.Refused == version, n.Status == conf.InstanceRejected && n.Version == version:
			refused = true
		case n.Status == conf.InstanceLost, n.Epoch != out.Epoch, n.Version < version, n.Version == version && !took:
			missing = append(missing, fmt.Sprintf("%s is %s at v%d", n.Instance, n.Status, n.Version))
		}
	}
	return refused, missing
}
