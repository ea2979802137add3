package cluster

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Token returns the command holdfast token.
func Token(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "token",
		Short: "Manage join tokens and API tokens",
		Long: `A join token (role server or sidecar) admits agents to the cluster for a limited time.
An API token (role config.read, config.write or config.report) lets a person or a
program use the admin API. Like those of CONFIG_API_TOKENS it is valid on every agent, until it
expires or is revoked.`,
	}, tokenCreate(a), tokenList(a), tokenRevoke(a))
}

func tokenCreate(a *cli.App) *cobra.Command {
	req := conf.JoinTokenRequest{}
	var name string
	cmd := &cobra.Command{
		Use:   "create --role server|sidecar|config.read|config.write|config.report",
		Short: "Make a token; it is shown this once",
		Long: `With --role server or sidecar: make a join token and print the command that joins
with it. Run that on the machine that is to join. A server may become a voter, and
receives all keys of the cluster. A sidecar has a full copy of the configuration, and
the keys of its own service only.

With --role config.read, config.write or config.report: make an API token for --name and
print it. The cluster keeps its SHA-256 only. The history and the access log show the name.
The role config.report is for observers: they report what they run, and can do nothing
else.`,
		Example: `  holdfast token create --role server
  holdfast token create --role sidecar --service stt-worker
  holdfast token create --role sidecar --ttl 24h --uses 10
  holdfast token create --role config.read --name dashboard --ttl 720h`,
		Args: cli.Needs(),
	}
	f := cmd.Flags()
	f.StringVar(&req.Role, "role", "", "the `ROLE`: server, sidecar, config.read, config.write or config.report")
	f.StringVar(&req.Service, "service", "", "of a join token: only an agent beside this `SERVICE` may use it")
	f.StringVar(&name, "name", "", "of an API token: the `NAME` of the person or program that uses it")
	f.DurationVar(&req.TTL, "ttl", 0, "how long it is valid (default 1h, up to 720h; of an API token 2160h, up to 87840h)")
	f.IntVar(&req.Uses, "uses", 1, "of a join token: how many agents may join with it; 0 is any number")
	cli.CompleteFlag(cmd, "role", conf.MemberServer, conf.MemberSidecar, string(conf.RoleRead), string(conf.RoleWrite), string(conf.RoleReport))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		api := conf.CheckRole(conf.Role(req.Role)) == nil
		most := conf.MaxTokenTTL
		if api {
			most = conf.MaxAPITokenTTL
		}
		switch {
		case req.Role == "":
			return cli.UsageError(cmd, "%s needs --role server or sidecar, or config.read, config.write or config.report", cmd.CommandPath())
		case !api && conf.CheckMemberRole(req.Role) != nil:
			return cli.UsageError(cmd, "bad role %q: use server or sidecar, or config.read, config.write or config.report", req.Role)
		case cmd.Flags().Changed("ttl") && req.TTL < time.Second || req.TTL > most:
			return cli.UsageError(cmd, "bad --ttl %s: from 1s to %dh", req.TTL, int(most.Hours()))
		case req.Uses < 0 || req.Uses > conf.MaxTokenUses:
			return cli.UsageError(cmd, "bad --uses %d: from 1 to %d, or 0 for any number", req.Uses, conf.MaxTokenUses)
		case api && (cmd.Flags().Changed("uses") || req.Service != ""):
			return cli.UsageError(cmd, "--uses and --service are for join tokens")
		case api && name == "":
			return cli.UsageError(cmd, "an API token needs --name: whose it is")
		case api && conf.CheckTokenName(name) != nil:
			err := conf.CheckTokenName(name)
			return cli.UsageError(cmd, "%s", err).WithHint("%s", conf.HintOf(err))
		case !api && name != "":
			return cli.UsageError(cmd, "--name is for API tokens")
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		if api {
			t, err := c.CreateAPIToken(cmd.Context(), conf.APITokenRequest{Role: conf.Role(req.Role), Name: name, TTL: req.TTL})
			if err != nil {
				return err
			}
			return printToken(a, t, t.Token, fmt.Sprintf("%s for %s", t.Role, cli.Clean(t.Name)), t.ExpiresAt, t.ID)
		}
		t, err := c.CreateJoinToken(cmd.Context(), req)
		if err != nil {
			return err
		}
		who := "any number of agents"
		if req.Uses > 0 {
			who = cli.Plural(req.Uses, "agent")
		}
		return printToken(a, t, cli.Runnable(t.Command), "for "+who, t.ExpiresAt, t.ID)
	}
	return cmd
}

// printToken prints a new token, and how long it works as a note.
func printToken(a *cli.App, v any, text, use, until, id string) error {
	err := a.Print(v, "%s", cli.Clean(text))
	if !a.AsJSON() {
		a.Note("%s, until %s; holdfast token revoke %s ends it before", use, until, id)
	}
	return err
}

func tokenList(a *cli.App) *cobra.Command {
	out := cli.List[token]{
		Columns: []string{"TOKEN", "ROLE", "FOR", "STATE", "USED", "EXPIRES", "BY"},
		Row: func(t token) []string {
			return []string{t.id, t.role, t.whose, cmp.Or(t.refusal, "usable"), t.used, cmp.Or(t.expires, "never"), t.by}
		},
		Empty: "no tokens: holdfast token create makes one",
	}
	return &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets", Args: cli.Needs(),
		RunE: a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
			joins, api, err := tokens(ctx, c)
			if err != nil {
				return err
			}
			return out.Print(a, map[string]any{"tokens": joins, "api_tokens": api}, merged(joins, api, time.Now()))
		}),
	}
}

// tokens gets the join tokens and the API tokens.
func tokens(ctx context.Context, c *client.Client) ([]conf.JoinTokenInfo, []conf.APITokenInfo, error) {
	joins, err := c.JoinTokens(ctx)
	if err != nil {
		return nil, nil, err
	}
	api, err := c.APITokens(ctx)
	return joins, api, err
}

// token is a join token or an API token in the list of both.
type token struct{ id, role, whose, refusal, used, expires, by string }

func merged(joins []conf.JoinTokenInfo, api []conf.APITokenInfo, now time.Time) (all []token) {
	for _, t := range joins {
		used := fmt.Sprintf("%d of %d", t.Used, t.Uses)
		if t.Uses == 0 {
			used = strconv.Itoa(t.Used) + " of any"
		}
		all = append(all, token{t.ID, t.Role, t.Service, t.RejectReason(conf.FormatTime(now)), used, t.ExpiresAt, t.CreatedBy})
	}
	for _, t := range api {
		all = append(all, token{t.ID, string(t.Role), t.Name, t.RejectReason(now), "", t.ExpiresAt, t.CreatedBy})
	}
	return all
}

func tokenRevoke(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token; agents that joined with it stay", Args: cli.Needs("ID"),
		ValidArgsFunction: a.Complete(func(ctx context.Context, c *client.Client) (ids []string, err error) {
			joins, api, err := tokens(ctx, c)
			for _, t := range merged(joins, api, time.Now()) {
				if t.refusal == "" {
					ids = append(ids, t.id)
				}
			}
			return ids, err
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			// Perhaps it is the token itself, which is not sent anywhere.
			if conf.CheckTokenID(id) != nil || strings.HasPrefix(id, "hfa_") {
				return cli.UsageError(cmd, "that is not the id of a token").WithHint("holdfast token list shows the ids")
			}
			c, err := a.Admin(conf.RoleWrite)
			if err != nil {
				return err
			}
			revoke := c.RevokeJoinToken
			if strings.HasPrefix(id, conf.APITokenIDPrefix) {
				revoke = c.RevokeAPIToken
			}
			if err := revoke(cmd.Context(), id); err != nil {
				return err
			}
			return a.Print(map[string]any{"id": id, "revoked": true}, "token %s: revoked", id)
		},
	}
}
