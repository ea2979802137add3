package model

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Profile returns the command holdfast profile.
func Profile(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "profile",
		Short: "Save and activate named sets of values",
		Long:  "A profile is a named set of stored values of several services. Activating it applies all of them, or none.",
	}, profileList(a), profileGet(a), profileSave(a), profileActivate(a), profileDelete(a))
}

func profileList(a *cli.App) *cobra.Command {
	return cli.List[conf.Profile]{
		Columns: []string{"PROFILE", "SERVICES", "UPDATED", "BY", "DESCRIPTION"},
		Row: func(p conf.Profile) []string {
			return []string{p.Name, strings.Join(conf.SortedKeys(p.Services), ", "), p.UpdatedAt, p.UpdatedBy, cli.Brief(p.Description, 60)}
		},
	}.Command(a, &cobra.Command{Use: "list", Short: "List the profiles"}, "profiles", (*client.Client).Profiles)
}

func profileGet(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show a profile", Args: cli.Needs("NAME"),
		RunE: a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Profile(ctx, args[0])
			if err != nil {
				return err
			}
			if a.AsJSON() {
				return a.PrintJSON(p)
			}
			var rows [][]string
			for _, s := range conf.SortedKeys(p.Services) {
				flat, err := values.Flatten(p.Services[s])
				if err != nil {
					return err
				}
				if len(flat) == 0 {
					rows = append(rows, []string{s, "", "(all defaults)"})
				}
				for _, k := range conf.SortedKeys(flat) {
					rows = append(rows, []string{s, k, string(flat[k])})
				}
			}
			return a.Table([]string{"SERVICE", "KEY", "VALUE"}, rows)
		}),
	}
}

func profileSave(a *cli.App) *cobra.Command {
	var services []string
	var description, reason string
	cmd := &cobra.Command{
		Use:     "save NAME",
		Short:   "Save the current values of services as a profile",
		Long:    "Save the values that services have now, of all of them or of those named, under a name. A profile of that name is replaced.",
		Example: `  holdfast profile save night --service stt-worker,tts-worker --description "quiet hours"`,
		Args:    cli.Needs("NAME"),
	}
	f := cmd.Flags()
	f.StringSliceVar(&services, "service", nil, "only these services, with commas between")
	f.StringVar(&description, "description", "", "what it is for")
	f.StringVar(&reason, "reason", "", "why, for the access log")
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		p, err := c.SaveProfile(ctx, conf.Profile{Name: args[0], Description: description}, services, client.Change{Reason: reason})
		if err != nil {
			return err
		}
		return a.Print(p, "profile %s: saved, with %s", p.Name, cli.Plural(len(p.Services), "service"))
	})
	return cmd
}

func profileActivate(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "activate NAME", Short: "Activate the values of a profile", Args: cli.Needs("NAME"),
		Long: "Store the values of a profile in its services: in all of them, or in none when one is rejected.",
	}
	cli.ReasonFlag(cmd, &reason)
	out := cli.List[cli.Change]{
		Columns: []string{"SERVICE", "VERSION", "CHANGED"},
		Row: func(c cli.Change) []string {
			return []string{c.Service, strconv.FormatUint(c.Version, 10), strconv.FormatBool(c.Changed)}
		},
	}
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		outcomes, err := c.ActivateProfile(ctx, args[0], client.Change{Reason: reason})
		if err != nil {
			return err
		}
		list := make([]cli.Change, len(outcomes))
		for i, o := range outcomes {
			list[i] = cli.ChangeOf(o)
		}
		return out.Print(a, map[string]any{"profile": args[0], "services": list}, list)
	})
	return cmd
}

func profileDelete(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a profile; its services keep their values", Args: cli.Needs("NAME"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the access log")
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		if err := c.DeleteProfile(ctx, args[0], client.Change{Reason: reason}); err != nil {
			return err
		}
		return a.Print(map[string]any{"profile": args[0], "deleted": true}, "profile %s: deleted", args[0])
	})
	return cmd
}
