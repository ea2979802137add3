package change

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Secret returns the command holdfast secret.
func Secret(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "secret",
		Short: "Set, list and show the secrets of services",
		Long: `Secrets are fields that the schema marks as such (x-secret). Those with the source
database are set here: sealed before they are stored, and served by the agents only
to authenticated callers. Those with the source env are not: set them in the
environment of the agent.`,
	}, secretSet(a), secretDelete(a), secretList(a), secretReveal(a))
}

// secretArgs rejects a value among the arguments, and does not repeat it.
func secretArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 2 || len(args) == 2 && strings.ContainsAny(args[1], "=:") {
		return conf.Errorf(conf.CodeUsage, "the value of a secret is not taken as an argument: others see it in the process list, and the shell keeps it").
			WithHint("pipe it in: %s SERVICE KEY < FILE; or omit it for a prompt. If the value was real, choose another one", cmd.CommandPath())
	}
	return cli.Needs("SERVICE", "KEY")(cmd, args)
}

func secretSet(a *cli.App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "set SERVICE KEY",
		Short: "Set a secret from standard input or a prompt",
		Long: `Set a secret. The value is read from standard input, without one line end at its end,
or from a prompt that does not show it. It is never an argument.`,
		Example: `  holdfast secret set stt-worker api_key
  printf %s "$VALUE" | holdfast secret set stt-worker db.password --reason "quarterly change"
  holdfast secret set stt-worker tls_key < key.pem`,
		Args: secretArgs, ValidArgsFunction: a.CompleteService,
	}
	flags := addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "the value is JSON")
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		service, key := args[0], args[1]
		info, err := c.Schema(ctx, service)
		if err != nil {
			return err
		}
		fields := newFieldSet(info)
		_, key = fields.resolve(key)
		field, known := fields.byKey[key]
		if known && !field.IsSecret {
			return conf.Errorf(conf.CodeInvalid, "%s of %s is not a secret", key, service).
				WithHint("set it as any other value: holdfast set %s %s=VALUE", service, key)
		}
		text, err := readSecret(ctx, a, service, key)
		if err != nil {
			return err
		}
		value, err := secretValue(field, text, asJSON)
		if err != nil {
			return err
		}
		return a.PrintChange(flags.do(ctx, c, conf.Draft{Service: service, Op: conf.OpSecretSet, Key: key, Document: value}))
	})
	return cmd
}

const maxSecretInput = 128 << 10

// readSecret reads the value from standard input, or from a prompt that does not show it.
func readSecret(ctx context.Context, a *cli.App, service, key string) (string, error) {
	if cli.IsTerminal(a.In) {
		text, err := a.ReadHidden(ctx, "Value of "+key+" of "+service+" (not shown): ")
		if err == nil && text == "" {
			err = conf.Errorf(conf.CodeUsage, "no value was given").WithHint("to remove the secret: holdfast secret delete %s %s", service, key)
		}
		return text, err
	}
	data, err := a.ReadFile("-", maxSecretInput)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", conf.Errorf(conf.CodeUsage, "standard input is empty: there is no value").
			WithHint("pipe the value in; to remove the secret: holdfast secret delete %s %s", service, key)
	}
	return text, nil
}

// secretValue is the JSON of what was typed. No error repeats it.
func secretValue(f conf.Field, text string, asJSON bool) (json.RawMessage, error) {
	if asJSON {
		if _, err := conf.ParseJSON([]byte(text), maxSecretInput); err != nil {
			return nil, errors.New("the value is not JSON: leave out --json for a text")
		}
		return json.RawMessage(text), nil
	}
	v, err := typed(f, text)
	if err != nil {
		return nil, conf.Errorf(conf.CodeInvalid, "%s takes %s", f.Key, strings.Join(articles(f.JSONTypes), " or "))
	}
	return json.Marshal(v)
}

func secretDelete(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete SERVICE KEY", Short: "Remove a secret", Example: "  holdfast secret delete stt-worker api_key --reason \"not needed any more\"",
		Args: cli.Needs("SERVICE", "KEY"), ValidArgsFunction: a.CompleteService,
	}
	flags := addFlags(cmd)
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		return a.PrintChange(flags.do(ctx, c, conf.Draft{Service: args[0], Op: conf.OpSecretDelete, Key: conf.PlainKey(args[1])}))
	})
	return cmd
}

func secretList(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list SERVICE", Short: "List the secrets of a service, without their values", Example: "  holdfast secret list stt-worker",
		Args: cli.Needs("SERVICE"), ValidArgsFunction: a.CompleteService,
		RunE: a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, args []string) error {
			list, err := c.Secrets(ctx, args[0])
			if err != nil {
				return err
			}
			return cli.List[conf.SecretInfo]{
				Columns: []string{"KEY", "SOURCE", "STATE", "AGE", "SEALED WITH", "VARIABLE"},
				Row:     secretRow,
				Empty:   args[0] + " has no secrets",
			}.Print(a, list, list)
		}),
	}
}

func secretRow(s conf.SecretInfo) []string {
	state := "not set"
	switch {
	case s.Unused:
		state = "set, not in the schema"
	case s.Set:
		state = "set"
	}
	age := ""
	if s.Age != nil {
		age = (time.Duration(*s.Age) * time.Second).String()
	}
	return []string{s.Key, string(s.Source), state, age, s.KeyID, s.Env}
}

func secretReveal(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "reveal SERVICE KEY --reason TEXT",
		Short: "Show the value of a secret, recorded in the access log",
		Long: `Show the value of a secret that is stored. Before it is shown, who requested it and why is
committed to the access log; without a quorum it is not shown.`,
		Example: `  holdfast secret reveal stt-worker db.password --reason "restoring the database by hand"`,
		Args:    cli.Needs("SERVICE", "KEY"), ValidArgsFunction: a.CompleteService,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the access log: why; required")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return cli.UsageError(cmd, "%s needs --reason TEXT: the access log keeps it", cmd.CommandPath())
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		value, err := c.Reveal(cmd.Context(), args[0], conf.PlainKey(args[1]), reason)
		if err != nil {
			return err
		}
		if a.AsJSON() {
			return a.PrintJSON(map[string]any{"service": args[0], "key": args[1], "value": value})
		}
		var s string
		if json.Unmarshal(value, &s) == nil {
			a.Say("%s", s)
			return nil
		}
		return a.PrintLine(value)
	}
	return cmd
}
