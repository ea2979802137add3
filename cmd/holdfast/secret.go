package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newSecret(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "secret",
		Short: "Set, list and show the secrets of services",
		Long: `Secrets are fields that the schema marks as such (x-secret). Those with the source
database are set here: sealed before they are stored, and served by the agents only
to callers that prove themselves. Those with the source env are not: set them in the
environment of the agent.`,
	})
	cmd.AddCommand(newSecretSet(a), newSecretDelete(a), newSecretList(a), newSecretReveal(a))
	return cmd
}

// secretArgs refuses a value among the arguments, and does not repeat it.
func secretArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 2 || len(args) == 2 && strings.ContainsAny(args[1], "=:") {
		return conf.Errorf(conf.CodeUsage, "the value of a secret is not taken as an argument: others see it in the process list, and the shell keeps it").
			WithHint("pipe it in: %s SERVICE KEY < FILE; or call it without a value and be asked. If the value was real, choose another one", cmd.CommandPath())
	}
	return needs("SERVICE", "KEY")(cmd, args)
}

func newSecretSet(a *app) *cobra.Command {
	var ch changeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "set SERVICE KEY",
		Short: "Set a secret; its value is read from standard input, or asked for",
		Long: `Set a secret. The value comes from standard input, where one line end at its end is
left out, or from a prompt that does not show it. It is never an argument.`,
		Example: `  holdfast secret set stt-worker api_key
  printf %s "$VALUE" | holdfast secret set stt-worker db.password --reason "quarterly change"
  holdfast secret set stt-worker tls_key < key.pem`,
		Args: secretArgs, ValidArgsFunction: a.completeService,
	}
	ch.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "the value is JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		service, key := args[0], args[1]
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		info, err := c.Schema(cmd.Context(), service)
		if err != nil {
			return err
		}
		field, known := newFieldSet(info).byKey[key]
		if known && !field.IsSecret {
			return conf.Errorf(conf.CodeInvalid, "%s of %s is not a secret", key, service).
				WithHint("set it as any other value: holdfast set %s %s=VALUE", service, key)
		}
		text, err := a.readSecret(service, key)
		if err != nil {
			return err
		}
		value, err := secretValue(field, text, asJSON)
		if err != nil {
			return err
		}
		return a.change(cmd, conf.Draft{Service: service, Op: conf.OpSecretSet, Key: key, Document: value}, ch)
	}
	return cmd
}

const maxSecretInput = 128 << 10

// readSecret takes the value from standard input, or asks for it without showing it.
func (a *app) readSecret(service, key string) (string, error) {
	if f, ok := a.in.(*os.File); ok && isTerminal(a.in) {
		io.WriteString(a.err, "Value of "+key+" of "+service+" (not shown): ")
		b, err := term.ReadPassword(int(f.Fd()))
		io.WriteString(a.err, "\n")
		if err != nil {
			return "", conf.Errorf(conf.CodeUsage, "the value was not read: %w", err)
		}
		if len(b) == 0 {
			return "", conf.Errorf(conf.CodeUsage, "no value was given").WithHint("to remove the secret: holdfast secret delete %s %s", service, key)
		}
		return string(b), nil
	}
	data, err := a.readFile("-", maxSecretInput)
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

func newSecretDelete(a *app) *cobra.Command {
	var ch changeFlags
	cmd := &cobra.Command{
		Use: "delete SERVICE KEY", Short: "Remove a secret", Example: "  holdfast secret delete stt-worker api_key --reason \"not needed any more\"",
		Args: needs("SERVICE", "KEY"), ValidArgsFunction: a.completeService,
	}
	ch.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.change(cmd, conf.Draft{Service: args[0], Op: conf.OpSecretDelete, Key: args[1]}, ch)
	}
	return cmd
}

func newSecretList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list SERVICE", Short: "List the secrets of a service, without their values", Example: "  holdfast secret list stt-worker",
		Args: needs("SERVICE"), ValidArgsFunction: a.completeService,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return err
		}
		list, err := c.Secrets(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(list)
		}
		rows := make([][]string, len(list))
		for i, s := range list {
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
			rows[i] = []string{s.Key, string(s.Source), state, age, s.KeyID, s.Env}
		}
		if len(rows) == 0 {
			a.note("%s has no secrets", args[0])
			return nil
		}
		return a.table([]string{"KEY", "SOURCE", "STATE", "AGE", "SEALED WITH", "VARIABLE"}, rows)
	}
	return cmd
}

func newSecretReveal(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "reveal SERVICE KEY --reason TEXT",
		Short: "Show the value of a secret; the access log keeps who asked and why",
		Long: `Show the value of a secret that is stored. Before it leaves the cluster, the access
log of all agents has who asked for it and why; without a quorum it is not shown.`,
		Example: `  holdfast secret reveal stt-worker db.password --reason "restoring the database by hand"`,
		Args:    needs("SERVICE", "KEY"), ValidArgsFunction: a.completeService,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; needed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return usageError(cmd, "%s needs --reason TEXT: the access log keeps it", cmd.CommandPath())
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		value, err := c.Reveal(cmd.Context(), args[0], args[1], reason)
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(map[string]any{"service": args[0], "key": args[1], "value": value})
		}
		var s string
		if json.Unmarshal(value, &s) == nil {
			a.say("%s", s)
			return nil
		}
		return a.printLine(value)
	}
	return cmd
}

func newExplain(a *app) *cobra.Command {
	var viaAdmin, secrets bool
	cmd := &cobra.Command{
		Use:   "explain SERVICE [KEY]",
		Short: "Show where each value comes from, and what it hides",
		Long: `Show for each field which source its value comes from: the environment of the agent
before what is stored, and that before the default of the schema. HIDES lists the
weaker sources that have a value too.`,
		Example: `  holdfast explain stt-worker
  holdfast explain stt-worker db.password --secrets`,
		Args: needs("SERVICE", "[KEY]"), ValidArgsFunction: a.completeService,
	}
	cmd.Flags().BoolVar(&viaAdmin, "admin", false, "ask the admin API instead; needs a token")
	cmd.Flags().BoolVar(&secrets, "secrets", false, "show the values of secrets; needs the agent's local-token file")
	cmd.MarkFlagsMutuallyExclusive("admin", "secrets")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		x, err := a.explanation(cmd, args[0], viaAdmin, secrets)
		if err != nil {
			return err
		}
		if len(args) == 2 {
			if err := onlyField(&x, args[1]); err != nil {
				return err
			}
		}
		if a.asJSON() {
			return a.printJSON(x)
		}
		rows := make([][]string, len(x.Fields))
		for i, f := range x.Fields {
			rows[i] = []string{f.Key, "nothing", "", "", ""}
			if w := f.Winner; w != nil {
				rows[i] = []string{f.Key, string(w.Source), brief(string(w.Value), 40), origin(*w), ""}
			}
			hidden := make([]string, len(f.Shadows))
			for n, l := range f.Shadows {
				hidden[n] = string(l.Source) + " " + brief(string(l.Value), 40)
				if o := origin(l); o != "" {
					hidden[n] += " (" + o + ")"
				}
			}
			rows[i][4] = strings.Join(hidden, "; ")
		}
		return a.table([]string{"KEY", "FROM", "VALUE", "SET BY", "HIDES"}, rows)
	}
	return cmd
}

func (a *app) explanation(cmd *cobra.Command, service string, viaAdmin, secrets bool) (conf.Explanation, error) {
	if viaAdmin {
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return conf.Explanation{}, err
		}
		return c.Explain(cmd.Context(), service)
	}
	dial := a.local
	if secrets {
		dial = a.localWithSecrets
	}
	c, err := dial()
	if err != nil {
		return conf.Explanation{}, err
	}
	return c.LocalExplain(cmd.Context(), service)
}

// onlyField leaves one field of an explanation.
func onlyField(x *conf.Explanation, key string) error {
	keys := make([]string, len(x.Fields))
	for i, f := range x.Fields {
		if keys[i] = f.Key; f.Key == key {
			x.Fields = x.Fields[i : i+1]
			return nil
		}
	}
	e := conf.Errorf(conf.CodeNotFound, "%s has no field %q", x.Service, key)
	if like := nearest(key, keys); like != "" {
		return e.WithHint("did you mean %s?", like)
	}
	return e.WithHint("holdfast explain %s lists all of them", x.Service)
}

// origin tells what set a value.
func origin(l conf.Layer) string {
	switch {
	case l.Env != "":
		return "variable " + l.Env
	case l.Version > 0:
		return "version " + strconv.FormatUint(l.Version, 10) + ", " + l.UpdatedBy + ", " + l.UpdatedAt
	case l.UpdatedAt != "":
		return l.UpdatedAt
	}
	return ""
}
