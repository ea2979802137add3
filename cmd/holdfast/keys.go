package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newKeys(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "keys",
		Short: "The keys of the cluster, and their rotation",
		Long: `The cluster has four keys: master seals the secrets of the database, hmac is that of
the last-known-good files, signing signs every version, and ca is the authority of
the certificates between the members.`,
	})
	cmd.AddCommand(newKeysStatus(a), newKeysRotate(a), newKeysRetire(a))
	return cmd
}

func newKeysStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Which keys there are, who holds them, and where rotations stand", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			st, err := c.KeyRing(cmd.Context())
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(st)
			}
			return a.showKeys(st)
		},
	}
}

func (a *app) showKeys(st conf.KeysStatus) error {
	if len(st.Keys) == 0 {
		a.note("the leader has not announced the keys yet: ask again in a moment")
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
			made = plural(k.Secrets, "secret")
		case conf.KeySigning:
			made = plural(k.Signatures, "signature")
		}
		until := k.NotAfter
		if k.Kind == conf.KeyCA && k.State == conf.KeyOld {
			until = "all have moved"
		}
		rows = append(rows, []string{k.Kind, short(k.ID), k.State, k.NotBefore, until, made})
	}
	if err := a.table([]string{"KIND", "KEY", "STATE", "SINCE", "UNTIL", "MADE WITH IT"}, rows); err != nil {
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
	a.say("")
	if err := a.table([]string{"MEMBER", "ROLE", "KIND", "HOLDS (* IN USE THERE)", "TROUBLE"}, rows); err != nil {
		return err
	}
	for _, r := range st.Rotations {
		a.say("")
		a.say("%s", clean(rotationText(r)))
	}
	return nil
}

// short is enough of a key id to tell it from others.
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
		text += ", the members are getting the new key"
	case conf.PhasePrepared:
		text += fmt.Sprintf(", handed out; holdfast keys rotate %s puts it to use", r.Kind)
	case conf.PhaseRenewal:
		text += fmt.Sprintf(", in use; %d of %d are made anew", r.Done, r.Total)
	case conf.PhaseGrace:
		text += ", in use, all is made anew"
		if r.Until != "" {
			text += "; the old key is taken until " + r.Until
		}
	}
	for _, w := range r.Waiting {
		text += "\n  waiting for " + w
	}
	return text
}

func newKeysRotate(a *app) *cobra.Command {
	var reason string
	var prepare, abort, detach bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rotate master|hmac|signing|ca",
		Short: "Put a new key in the place of one, everywhere",
		Long: `Make a new key, hand it to the members, put it to use when every server that votes and
every server that answers has it, and make anew what the old one made. The old key is
taken for CONFIG_KEY_ROTATION_GRACE_MINUTES after that, and then removed.

The agents do all of it by themselves, whoever leads. This command waits until the new
key is in use and everything is made anew; when it is interrupted the rotation goes on.

With --prepare the new key is handed out and shown in /v1/keys, and not used before the
next rotate: time to bring a signing key to those who verify messages on their own.`,
		Example: `  holdfast keys rotate signing --reason "a year is over"
  holdfast keys rotate master
  holdfast keys rotate signing --prepare
  holdfast keys rotate ca --abort`,
		Args: needs("master|hmac|signing|ca"), ValidArgs: conf.KeyKinds(),
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "`TEXT` for the access log: why")
	f.BoolVar(&prepare, "prepare", false, "hand the new key out and do not use it; the next rotate does")
	f.BoolVar(&abort, "abort", false, "give the new key up, while it is not in use")
	f.BoolVar(&detach, "detach", false, "do not wait")
	cmd.MarkFlagsMutuallyExclusive("prepare", "abort")
	f.DurationVar(&wait, "timeout", 5*time.Minute, "how long to wait; the rotation goes on after that")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind := args[0]
		if err := conf.CheckKeyKind(kind); err != nil {
			return usageError(cmd, "there is no key of the kind %q: use master, hmac, signing or ca", kind)
		}
		c, err := a.admin(conf.RoleWrite)
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
			if r, err = a.awaitRotation(cmd.Context(), c, r, wait); err != nil {
				return err
			}
		}
		switch {
		case a.asJSON():
			return a.printJSON(r)
		case abort:
			a.say("%s: given up; %s stays in use", kind, short(r.KeyID))
		case r.Phase == "":
			a.say("%s: %s is in use", kind, short(r.KeyID))
		default:
			a.say("%s", clean(rotationText(r)))
		}
		return nil
	}
	return cmd
}

// awaitRotation waits until a new key is in use and everything is made anew. A leader
// that goes meanwhile is waited through.
func (a *app) awaitRotation(ctx context.Context, c *client.Client, r conf.KeyRotation, wait time.Duration) (conf.KeyRotation, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	kind, id, shown := r.Kind, r.KeyID, ""
	for r.Phase == conf.PhaseHandover || r.Phase == conf.PhaseRenewal {
		if text := rotationText(r); text != shown {
			shown = text
			a.note("%s", clean(text))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, conf.Errorf(conf.CodeStale, "the rotation is not through yet, and goes on by itself").WithHint("see where it stands: holdfast keys status")
		}
		st, err := c.KeyRing(ctx)
		if err != nil {
			continue
		}
		now := conf.KeyRotation{Kind: kind, KeyID: id, Waiting: []string{}}
		for _, k := range st.Keys {
			if k.Kind == kind && k.ID == id && k.State == conf.KeyWithdrawn {
				return now, conf.Errorf(conf.CodeConflict, "the new key was given up meanwhile")
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

func newKeysRetire(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "retire master|hmac|signing|ca",
		Short: "End the time of the old key now",
		Long: `After a rotation the old key is taken for CONFIG_KEY_ROTATION_GRACE_MINUTES. This ends
that time now, as after a theft. It is refused while something still needs the old key.`,
		Args: needs("master|hmac|signing|ca"), ValidArgs: conf.KeyKinds(),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the access log: why")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := conf.CheckKeyKind(args[0]); err != nil {
			return usageError(cmd, "there is no key of the kind %q: use master, hmac, signing or ca", args[0])
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		r, err := c.ChangeKey(cmd.Context(), conf.KeysRetire, args[0], reason)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(r)
		}
		a.say("%s: the old key is not taken any more; %s is in use", args[0], short(r.KeyID))
		return nil
	}
	return cmd
}
