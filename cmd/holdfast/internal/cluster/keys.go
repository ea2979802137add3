package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Keys returns the command holdfast keys.
func Keys(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "keys",
		Short: "Show and rotate the keys of the cluster",
		Long: `The cluster has four keys: master seals the secrets of the database, hmac authenticates
the last-known-good files, signing signs every version, and ca issues the certificates
of the members.`,
	}, keysStatus(a), keysRotate(a), keysRetire(a))
}

func keysStatus(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the keys, their holders, and the running rotations", Args: cli.Needs(),
		RunE: a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
			st, err := c.KeyRing(ctx)
			if err != nil {
				return err
			}
			if a.AsJSON() {
				return a.PrintJSON(st)
			}
			return showKeys(a, st)
		}),
	}
}

func showKeys(a *cli.App, st conf.KeysStatus) error {
	if len(st.Keys) == 0 {
		a.Note("the leader has not announced the keys yet: retry in a moment")
		return nil
	}
	rows := [][]string{}
	for _, k := range st.Keys {
		if k.State == conf.KeyExpired || k.State == conf.KeyWithdrawn {
			continue
		}
		made := ""
		switch k.Kind {
		case conf.KeyMaster:
			made = cli.Plural(k.Secrets, "secret")
		case conf.KeySigning:
			made = cli.Plural(k.Signatures, "signature")
		}
		until := k.NotAfter
		if k.Kind == conf.KeyCA && k.State == conf.KeyOld {
			until = "all have moved"
		}
		rows = append(rows, []string{k.Kind, short(k.ID), k.State, k.NotBefore, until, made})
	}
	if err := a.Table([]string{"KIND", "KEY", "STATE", "SINCE", "UNTIL", "MADE WITH IT"}, rows); err != nil {
		return err
	}
	rows = [][]string{}
	for _, m := range st.Members {
		for _, kind := range conf.KeyKinds() {
			h, ok := m.Holds[kind]
			if !ok || (len(h.IDs) == 0 && h.Err == "") {
				continue
			}
			ids := make([]string, len(h.IDs))
			for i, id := range h.IDs {
				ids[i] = short(id)
				if id == h.Use {
					ids[i] += "*"
				}
			}
			rows = append(rows, []string{m.NodeID, m.Role, kind, strings.Join(ids, " "), h.Err})
		}
		if !m.Reachable {
			rows = append(rows, []string{m.NodeID, m.Role, "", "", "does not answer"})
		}
	}
	a.Say("")
	if err := a.Table([]string{"MEMBER", "ROLE", "KIND", "HOLDS (* IN USE THERE)", "TROUBLE"}, rows); err != nil {
		return err
	}
	for _, r := range st.Rotations {
		a.Say("")
		a.Say("%s", cli.Clean(rotationText(r)))
	}
	return nil
}

// short is the start of a key id, enough to distinguish it.
func short(id string) string {
	if len(id) > 16 && !strings.Contains(id, "-") {
		return id[:16]
	}
	return id
}

func rotationText(r conf.KeyRotation) string {
	text := fmt.Sprintf("%s: %s to %s", r.Kind, short(r.OldID), short(r.KeyID))
	switch r.Phase {
	case conf.PhaseHandover:
		text += ", distributing the new key to the members"
	case conf.PhasePrepared:
		text += fmt.Sprintf(", distributed; holdfast keys rotate %s activates it", r.Kind)
	case conf.PhaseRenewal:
		text += fmt.Sprintf(", active; %d of %d renewed", r.Done, r.Total)
	case conf.PhaseGrace:
		text += ", active, all renewed"
		if r.Until != "" {
			text += "; the old key is accepted until " + r.Until
		}
	}
	for _, w := range r.Waiting {
		text += "\n  waiting for " + w
	}
	return text
}

func keysRotate(a *cli.App) *cobra.Command {
	var reason string
	var prepare, abort, detach bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rotate master|hmac|signing|ca",
		Short: "Replace a key on all members",
		Long: `Generate a new key and distribute it to the members. Activate it when every voter and
every reachable server has it, then renew what the old key signed or sealed. The old key
is accepted for CONFIG_KEY_ROTATION_GRACE_MINUTES after that, and then removed.

The agents carry it out, also when the leader changes. This command waits until the new
key is active and everything is renewed; when it is interrupted, the rotation continues.

With --prepare the new key is distributed and shown in /v1/keys, but not used before the
next rotate. Use the time to give a new signing key to clients that verify messages.`,
		Example: `  holdfast keys rotate signing --reason "a year is over"
  holdfast keys rotate master
  holdfast keys rotate signing --prepare
  holdfast keys rotate ca --abort`,
		Args: cli.Needs("master|hmac|signing|ca"), ValidArgs: conf.KeyKinds(),
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "`TEXT` for the access log: why")
	f.BoolVar(&prepare, "prepare", false, "distribute the new key without using it; the next rotate activates it")
	f.BoolVar(&abort, "abort", false, "withdraw the new key, while it is not active")
	f.BoolVar(&detach, "detach", false, "do not wait")
	cmd.MarkFlagsMutuallyExclusive("prepare", "abort")
	f.DurationVar(&wait, "timeout", 5*time.Minute, "how long to wait; the rotation continues after that")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind := args[0]
		c, err := keysClient(cmd, a, kind)
		if err != nil {
			return err
		}
		change := conf.KeysRotate
		switch {
		case abort:
			change = conf.KeysAbort
		case prepare:
			change = conf.KeysPrepare
		}
		r, err := c.ChangeKey(cmd.Context(), change, kind, reason)
		if err != nil {
			return err
		}
		if !abort && !detach && !prepare {
			if r, err = awaitRotation(cmd.Context(), a, c, r, wait); err != nil {
				return err
			}
		}
		switch {
		case abort:
			return a.Print(r, "%s: given up; %s stays in use", kind, short(r.KeyID))
		case r.Phase == "":
			return a.Print(r, "%s: %s is in use", kind, short(r.KeyID))
		}
		return a.Print(r, "%s", cli.Clean(rotationText(r)))
	}
	return cmd
}

// keysClient is the client for a change of the key of a kind.
func keysClient(cmd *cobra.Command, a *cli.App, kind string) (*client.Client, error) {
	if err := conf.CheckKeyKind(kind); err != nil {
		return nil, cli.UsageError(cmd, "there is no key of the kind %q: use master, hmac, signing or ca", kind)
	}
	return a.Admin(conf.RoleWrite)
}

// awaitRotation waits until a new key is in use and all that the old key made is
// renewed. It keeps waiting while there is no leader.
func awaitRotation(ctx context.Context, a *cli.App, c *client.Client, r conf.KeyRotation, wait time.Duration) (conf.KeyRotation, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	kind, id, shown := r.Kind, r.KeyID, ""
	for r.Phase == conf.PhaseHandover || r.Phase == conf.PhaseRenewal {
		if text := rotationText(r); text != shown {
			shown = text
			a.Note("%s", cli.Clean(text))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, conf.Errorf(conf.CodeStale, "the rotation is not complete yet, and continues").WithHint("see its progress: holdfast keys status")
		}
		st, err := c.KeyRing(ctx)
		if err != nil {
			continue
		}
		now := conf.KeyRotation{Kind: kind, KeyID: id, Waiting: []string{}}
		for _, k := range st.Keys {
			if k.Kind == kind && k.ID == id && k.State == conf.KeyWithdrawn {
				return now, conf.Errorf(conf.CodeConflict, "the new key was withdrawn")
			}
		}
		for _, s := range st.Rotations {
			if s.Kind == kind {
				now = s
			}
		}
		r = now
	}
	return r, nil
}

func keysRetire(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "retire master|hmac|signing|ca",
		Short: "End the grace period of the old key now",
		Long: `After a rotation the old key is accepted for CONFIG_KEY_ROTATION_GRACE_MINUTES. This
ends that period now, as after a theft. It is rejected while something needs the old key.`,
		Args: cli.Needs("master|hmac|signing|ca"), ValidArgs: conf.KeyKinds(),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the access log: why")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := keysClient(cmd, a, args[0])
		if err != nil {
			return err
		}
		r, err := c.ChangeKey(cmd.Context(), conf.KeysRetire, args[0], reason)
		if err != nil {
			return err
		}
		return a.Print(r, "%s: the old key is not taken any more; %s is in use", args[0], short(r.KeyID))
	}
	return cmd
}
