package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newProfile(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "profile",
		Short: "Named sets of values, to switch between",
		Long:  "A profile is a named set of stored values of several services. Activating it puts them all into effect, or none.",
	})
	cmd.AddCommand(newProfileList(a), newProfileGet(a), newProfileSave(a), newProfileActivate(a), newProfileDelete(a))
	return cmd
}

func newProfileList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the profiles", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			list, err := c.Profiles(cmd.Context())
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"profiles": list})
			}
			rows := make([][]string, len(list))
			for i, p := range list {
				rows[i] = []string{p.Name, strings.Join(conf.SortedKeys(p.Services), ", "), p.UpdatedAt, p.UpdatedBy, brief(p.Description, 60)}
			}
			return a.table([]string{"PROFILE", "SERVICES", "UPDATED", "BY", "DESCRIPTION"}, rows)
		},
	}
}

func newProfileGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show a profile", Args: needs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			p, err := c.Profile(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(p)
			}
			var rows [][]string
			for _, s := range conf.SortedKeys(p.Services) {
				values, err := flatten(p.Services[s])
				if err != nil {
					return err
				}
				if len(values) == 0 {
					rows = append(rows, []string{s, "", "(all defaults)"})
				}
				for _, k := range conf.SortedKeys(values) {
					rows = append(rows, []string{s, k, string(values[k])})
				}
			}
			return a.table([]string{"SERVICE", "KEY", "VALUE"}, rows)
		},
	}
}

func newProfileSave(a *app) *cobra.Command {
	var services []string
	var description, reason string
	cmd := &cobra.Command{
		Use:     "save NAME",
		Short:   "Save the present values of services as a profile",
		Long:    "Save the values that services have now, of all of them or of those named, under a name. A profile of that name is replaced.",
		Example: `  holdfast profile save night --service stt-worker,tts-worker --description "quiet hours"`,
		Args:    needs("NAME"),
	}
	f := cmd.Flags()
	f.StringSliceVar(&services, "service", nil, "only these services, with commas between")
	f.StringVar(&description, "description", "", "what it is for")
	f.StringVar(&reason, "reason", "", "why, for the access log")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		p, err := c.SaveProfile(cmd.Context(), conf.Profile{Name: args[0], Description: description}, services, client.Change{Reason: reason})
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(p)
		}
		a.say("profile %s: saved, with %s", p.Name, plural(len(p.Services), "service"))
		return nil
	}
	return cmd
}

func newProfileActivate(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "activate NAME", Short: "Put the values of a profile into effect", Args: needs("NAME"),
		Long: "Make the values of a profile the stored values of its services: of all, or of none when one of them is refused.",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the history: why")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		outs, err := c.ActivateProfile(cmd.Context(), args[0], client.Change{Reason: reason})
		if err != nil {
			return err
		}
		list := make([]changed, len(outs))
		rows := make([][]string, len(outs))
		for i, o := range outs {
			list[i] = changed{Service: o.Service, Version: o.Version, Changed: o.Changed}
			rows[i] = []string{o.Service, strconv.FormatUint(o.Version, 10), strconv.FormatBool(o.Changed)}
		}
		if a.asJSON() {
			return a.printJSON(map[string]any{"profile": args[0], "services": list})
		}
		return a.table([]string{"SERVICE", "VERSION", "CHANGED"}, rows)
	}
	return cmd
}

func newProfileDelete(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a profile; its services keep their values", Args: needs("NAME"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the access log")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		if err := c.DeleteProfile(cmd.Context(), args[0], client.Change{Reason: reason}); err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(map[string]any{"profile": args[0], "deleted": true})
		}
		a.say("profile %s: deleted", args[0])
		return nil
	}
	return cmd
}
