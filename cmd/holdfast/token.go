package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newToken(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "token",
		Short: "Join tokens, by which agents come into the cluster",
		Long: `A join token admits agents of one role to the cluster for a limited time. It is not
an API token: those are CONFIG_API_TOKENS.`,
	})
	cmd.AddCommand(newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
	return cmd
}

func newTokenCreate(a *app) *cobra.Command {
	req := conf.JoinTokenRequest{}
	cmd := &cobra.Command{
		Use:   "create --role server|sidecar",
		Short: "Print one command that joins an agent to the cluster",
		Long: `Make a join token and print one whole command that joins by it. Paste it on the
machine that is to join; nobody can see the token a second time.

A server may become a voter, and receives all keys of the cluster. A sidecar has a
full copy of the configuration, and the keys of its own service only.`,
		Example: `  holdfast token create --role server
  holdfast token create --role sidecar --service stt-worker
  holdfast token create --role sidecar --ttl 24h --uses 10`,
		Args: needs(),
	}
	f := cmd.Flags()
	f.StringVar(&req.Role, "role", "", "what joins by it: a `ROLE`, server or sidecar")
	f.StringVar(&req.Service, "service", "", "only an agent beside this `SERVICE` may use it")
	f.DurationVar(&req.TTL, "ttl", conf.DefaultTokenTTL, "how long it works, up to 720h")
	f.IntVar(&req.Uses, "uses", 1, "how many agents may join by it; 0 is any number")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{conf.MemberServer, conf.MemberSidecar}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case req.Role == "":
			return usageError(cmd, "%s needs --role server or --role sidecar", cmd.CommandPath())
		case conf.CheckMemberRole(req.Role) != nil:
			return usageError(cmd, "bad role %q: use server or sidecar", req.Role)
		case req.TTL < time.Second || req.TTL > conf.MaxTokenTTL:
			return usageError(cmd, "bad --ttl %s: from 1s to 720h", req.TTL)
		case req.Uses < 0 || req.Uses > conf.MaxTokenUses:
			return usageError(cmd, "bad --uses %d: from 1 to %d, or 0 for any number", req.Uses, conf.MaxTokenUses)
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		t, err := c.CreateJoinToken(cmd.Context(), req)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(t)
		}
		a.say("%s", clean(t.Command))
		who := "any number of agents"
		if req.Uses > 0 {
			who = plural(req.Uses, "agent")
		}
		a.note("for %s, until %s; holdfast token revoke %s ends it before", who, t.ExpiresAt, t.ID)
		return nil
	}
	return cmd
}

func newTokenList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the join tokens, without their secrets", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			list, err := c.JoinTokens(cmd.Context())
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"tokens": list})
			}
			if len(list) == 0 {
				a.note("no join tokens: holdfast token create makes one")
				return nil
			}
			now := conf.FormatTime(time.Now())
			rows := make([][]string, len(list))
			for i, t := range list {
				state, used, until := t.Refusal(now), fmt.Sprintf("%d of %d", t.Used, t.Uses), t.ExpiresAt
				if state == "" {
					state = "usable"
				}
				if t.Uses == 0 {
					used = strconv.Itoa(t.Used) + " of any"
				}
				if until == "" {
					until = "never"
				}
				rows[i] = []string{t.ID, t.Role, t.Service, state, used, until, t.CreatedBy}
			}
			return a.table([]string{"TOKEN", "ROLE", "SERVICE", "STATE", "USED", "EXPIRES", "BY"}, rows)
		},
	}
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a join token useless; who joined by it stays", Args: needs("ID"),
		ValidArgsFunction: a.complete(func(cmd *cobra.Command) ([]string, error) {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return nil, err
			}
			list, err := c.JoinTokens(cmd.Context())
			var ids []string
			for _, t := range list {
				if t.Refusal(conf.FormatTime(time.Now())) == "" {
					ids = append(ids, t.ID)
				}
			}
			return ids, err
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := conf.CheckTokenID(args[0]); err != nil { // perhaps the token itself, which is not to be sent anywhere
				return usageError(cmd, "that is not the id of a join token").WithHint("holdfast token list shows the ids")
			}
			c, err := a.admin(conf.RoleWrite)
			if err != nil {
				return err
			}
			if err := c.RevokeJoinToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"id": args[0], "revoked": true})
			}
			a.say("token %s: revoked", args[0])
			return nil
		},
	}
}
