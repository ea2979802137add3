package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newSet(a *app) *cobra.Command {
	var ch changeFlags
	cmd := &cobra.Command{
		Use:   "set SERVICE KEY=VALUE...",
		Short: "Change values of a service",
		Long: `Change one or more values of a service, all in one version or none. The schema of
the service says what each value is read as: a text, a number, true or false.
KEY:=JSON takes a value as JSON. Keys of nested objects are dotted.`,
		Example: `  holdfast set stt-worker vad_threshold=0.6
  holdfast set stt-worker whisper_model=small.en streaming_partials=true --reason "better accuracy"
  holdfast set router 'limits:={"per_minute": 30}'`,
		Args: needs("SERVICE", "KEY=VALUE..."), ValidArgsFunction: a.completeService,
	}
	ch.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := parseAssignments(cmd, args[1:])
		if err != nil {
			return err
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		info, err := c.Schema(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		fields := newFieldSet(info)
		for _, as := range list {
			if f := fields.byKey[as.key]; f.IsSecret && f.Env == "" { // one of the environment the agent refuses, with the way out
				return conf.Errorf(conf.CodeUsage, "%s is a secret, and the value of a secret is not taken as an argument: others see it in the process list, and the shell keeps it", as.key).
					WithHint("holdfast secret set %s %s. If the value was real, choose another one", args[0], as.key)
			}
		}
		patch, err := fields.patch(list)
		if err != nil {
			return err
		}
		return a.change(cmd, conf.Draft{Service: args[0], Op: conf.OpPatch, Document: patch}, ch)
	}
	return cmd
}

// changeFlags are the flags of every command that changes a service.
type changeFlags struct {
	reason  string
	version uint64
}

func (ch *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&ch.reason, "reason", "", "`TEXT` for the history: why")
	cmd.Flags().Uint64Var(&ch.version, "version", 0, "only when the service is at this version, else exit code 4")
}

// changed is the result of a change, as -o json prints it.
type changed struct {
	Service string `json:"service"`
	Version uint64 `json:"version"`
	Changed bool   `json:"changed"`
}

// change has one draft made and tells what became of it.
func (a *app) change(cmd *cobra.Command, d conf.Draft, ch changeFlags) error {
	c, err := a.admin(conf.RoleWrite)
	if err != nil {
		return err
	}
	d.Reason = ch.reason
	if cmd.Flags().Changed("version") {
		d.Expect = &ch.version
	}
	out, err := c.Do(cmd.Context(), d)
	if err != nil {
		return err
	}
	return a.printChanged(changed{Service: out.Service, Version: out.Version, Changed: out.Changed})
}

func (a *app) printChanged(c changed) error {
	switch {
	case a.asJSON():
		return a.printJSON(c)
	case !c.Changed:
		a.say("%s: nothing changed, still version %s", c.Service, strconv.FormatUint(c.Version, 10))
	default:
		a.say("%s: version %s", c.Service, strconv.FormatUint(c.Version, 10))
	}
	return nil
}
