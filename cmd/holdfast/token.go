package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newToken(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "token",
		Short: "Tokens: by some of them agents join the cluster, by others callers use the admin API",
		Long: `A join token (role server or sidecar) admits agents to the cluster for a limited time.
An API token (role config.read or config.write) lets a person or a program use the
admin API. It works beside those of CONFIG_API_TOKENS, on every agent, until it
expires or is revoked.`,
	})
	cmd.AddCommand(newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
	return cmd
}

func newTokenCreate(a *app) *cobra.Command {
	req := conf.JoinTokenRequest{}
	var name string
	cmd := &cobra.Command{
		Use:   "create --role server|sidecar|config.read|config.write",
		Short: "Make a token; it is shown this once",
		Long: `With --role server or sidecar: make a join token and print one whole command that joins
by it. Paste it on the machine that is to join. A server may become a voter, and
receives all keys of the cluster. A sidecar has a full copy of the configuration, and
the keys of its own service only.

With --role config.read or config.write: make an API token for --name and print it. The
cluster keeps its SHA-256 only. The name stands in the history and in the access log.`,
		Example: `  holdfast token create --role server
  holdfast token create --role sidecar --service stt-worker
  holdfast token create --role sidecar --ttl 24h --uses 10
  holdfast token create --role config.read --name dashboard --ttl 720h`,
		Args: needs(),
	}
	f := cmd.Flags()
	f.StringVar(&req.Role, "role", "", "what it is for: a `ROLE`, server, sidecar, config.read or config.write")
	f.StringVar(&req.Service, "service", "", "of a join token: only an agent beside this `SERVICE` may use it")
	f.StringVar(&name, "name", "", "of an API token: whose it is, a `NAME` of a person or a program")
	f.DurationVar(&req.TTL, "ttl", 0, "how long it works (default 1h, up to 720h; of an API token 2160h, up to 87840h)")
	f.IntVar(&req.Uses, "uses", 1, "of a join token: how many agents may join by it; 0 is any number")
	roles := []string{conf.MemberServer, conf.MemberSidecar, string(conf.RoleRead), string(conf.RoleWrite)}
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		api := conf.CheckRole(conf.Role(req.Role)) == nil
		most := conf.MaxTokenTTL
		if api {
			most = conf.MaxAPITokenTTL
		}
		switch {
		case req.Role == "":
			return usageError(cmd, "%s needs --role server or sidecar, or config.read or config.write", cmd.CommandPath())
		case !api && conf.CheckMemberRole(req.Role) != nil:
			return usageError(cmd, "bad role %q: use server or sidecar, or config.read or config.write", req.Role)
		case cmd.Flags().Changed("ttl") && req.TTL < time.Second || req.TTL > most:
			return usageError(cmd, "bad --ttl %s: from 1s to %dh", req.TTL, int(most.Hours()))
		case req.Uses < 0 || req.Uses > conf.MaxTokenUses:
			return usageError(cmd, "bad --uses %d: from 1 to %d, or 0 for any number", req.Uses, conf.MaxTokenUses)
		case api && (cmd.Flags().Changed("uses") || req.Service != ""):
			return usageError(cmd, "--uses and --service are for join tokens")
		case api && name == "":
			return usageError(cmd, "an API token needs --name: whose it is")
		case api && conf.CheckTokenName(name) != nil:
			err := conf.CheckTokenName(name)
			return usageError(cmd, "%s", err).WithHint("%s", conf.HintOf(err))
		case !api && name != "":
			return usageError(cmd, "--name is for API tokens")
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		if api {
			return a.createAPIToken(cmd, c, conf.APITokenRequest{Role: conf.Role(req.Role), Name: name, TTL: req.TTL})
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

func (a *app) createAPIToken(cmd *cobra.Command, c *client.Client, req conf.APITokenRequest) error {
	t, err := c.CreateAPIToken(cmd.Context(), req)
	if err != nil {
		return err
	}
	if a.asJSON() {
		return a.printJSON(t)
	}
	a.say("%s", clean(t.Token))
	a.note("%s for %s, until %s; holdfast token revoke %s ends it before", t.Role, clean(t.Name), t.ExpiresAt, t.ID)
	return nil
}

// tokenLists asks for both kinds.
func tokenLists(cmd *cobra.Command, c *client.Client) ([]conf.JoinTokenInfo, []conf.APITokenInfo, error) {
	joins, err := c.JoinTokens(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	api, err := c.APITokens(cmd.Context())
	return joins, api, err
}

func newTokenList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			joins, api, err := tokenLists(cmd, c)
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"tokens": joins, "api_tokens": api})
			}
			if len(joins)+len(api) == 0 {
				a.note("no tokens: holdfast token create makes one")
				return nil
			}
			return a.table([]string{"TOKEN", "ROLE", "FOR", "STATE", "USED", "EXPIRES", "BY"}, tokenRows(joins, api, time.Now()))
		},
	}
}

func tokenRows(joins []conf.JoinTokenInfo, api []conf.APITokenInfo, now time.Time) [][]string {
	row := func(id, role, whose, refusal, used, until, by string) []string {
		if refusal == "" {
			refusal = "usable"
		}
		if until == "" {
			until = "never"
		}
		return []string{id, role, whose, refusal, used, until, by}
	}
	var rows [][]string
	for _, t := range joins {
		used := fmt.Sprintf("%d of %d", t.Used, t.Uses)
		if t.Uses == 0 {
			used = strconv.Itoa(t.Used) + " of any"
		}
		rows = append(rows, row(t.ID, t.Role, t.Service, t.Refusal(conf.FormatTime(now)), used, t.ExpiresAt, t.CreatedBy))
	}
	for _, t := range api {
		rows = append(rows, row(t.ID, string(t.Role), t.Name, t.Refusal(now), "", t.ExpiresAt, t.CreatedBy))
	}
	return rows
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a token useless; an agent that joined by it stays", Args: needs("ID"),
		ValidArgsFunction: a.complete(func(cmd *cobra.Command) ([]string, error) {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return nil, err
			}
			joins, api, err := tokenLists(cmd, c)
			var ids []string
			for _, t := range joins {
				if t.Refusal(conf.FormatTime(time.Now())) == "" {
					ids = append(ids, t.ID)
				}
			}
			for _, t := range api {
				if t.Refusal(time.Now()) == "" {
					ids = append(ids, t.ID)
				}
			}
			return ids, err
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			// Perhaps it is the token itself, which is not to be sent anywhere.
			if conf.CheckTokenID(id) != nil || strings.HasPrefix(id, "hfa_") {
				return usageError(cmd, "that is not the id of a token").WithHint("holdfast token list shows the ids")
			}
			c, err := a.admin(conf.RoleWrite)
			if err != nil {
				return err
			}
			if strings.HasPrefix(id, conf.APITokenIDPrefix) {
				err = c.RevokeAPIToken(cmd.Context(), id)
			} else {
				err = c.RevokeJoinToken(cmd.Context(), id)
			}
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"id": id, "revoked": true})
			}
			a.say("token %s: revoked", id)
			return nil
		},
	}
}
