package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newGet(a *app) *cobra.Command {
	var raw, viaAdmin, secrets bool
	var maxAge time.Duration
	cmd := &cobra.Command{
		Use:   "get SERVICE [KEY]",
		Short: "Read a service's configuration, or one value of it",
		Long: `Read the configuration of a service as the service itself sees it, from the local
API of the agent; no token is needed. Keys of nested objects are dotted.

A key prints as JSON, with --raw as bare text for shell scripts. Without a key,
--raw prints the document alone, as JSON.`,
		Example: `  holdfast get stt-worker
  holdfast get stt-worker vad_threshold
  model=$(holdfast get stt-worker whisper_model --raw)
  holdfast get stt-worker --raw > stt-worker.json`,
		Args: needs("SERVICE", "[KEY]"), ValidArgsFunction: a.completeService,
	}
	f := cmd.Flags()
	f.BoolVar(&raw, "raw", false, "print the bare value: text without quotes, or the document alone")
	f.BoolVar(&viaAdmin, "admin", false, "read from the admin API instead; needs a token")
	f.BoolVar(&secrets, "secrets", false, "include secrets; needs the agent's local-token file")
	f.DurationVar(&maxAge, "max-age", 0, "fail with exit code 8 when the agent last heard from a leader longer ago")
	cmd.MarkFlagsMutuallyExclusive("admin", "secrets")
	cmd.MarkFlagsMutuallyExclusive("admin", "max-age")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		doc, err := a.document(cmd.Context(), args[0], viaAdmin, secrets)
		if err != nil {
			return err
		}
		if maxAge > 0 && (doc.Age < 0 || doc.Age > maxAge) {
			return stale(doc, maxAge)
		}
		if doc.Source != "" && doc.Source != "replica" {
			a.note("note: the agent serves this from %s, not from its store", sourceName(doc.Source))
		}
		if len(args) == 2 {
			return a.printKey(doc, args[1], raw)
		}
		return a.printDocument(doc, raw)
	}
	return cmd
}

func (a *app) document(ctx context.Context, service string, viaAdmin, secrets bool) (client.Document, error) {
	if viaAdmin {
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return client.Document{}, err
		}
		r, err := c.Service(ctx, service)
		return client.Document{ReadResponse: r}, err
	}
	dial := a.local
	if secrets {
		dial = a.localWithSecrets
	}
	c, err := dial()
	if err != nil {
		return client.Document{}, err
	}
	return c.Document(ctx, service)
}

func (a *app) printDocument(doc client.Document, raw bool) error {
	switch {
	case raw:
		return a.printJSON(doc.Config)
	case a.asJSON():
		return a.printJSON(doc.ReadResponse)
	}
	values, err := flatten(doc.Config)
	if err != nil {
		return err
	}
	rows := make([][]string, 0, len(values))
	for _, k := range conf.SortedKeys(values) {
		rows = append(rows, []string{k, string(values[k])})
	}
	return a.table([]string{"KEY", "VALUE"}, rows)
}

func (a *app) printKey(doc client.Document, key string, raw bool) error {
	m, err := conf.ParseObject(doc.Config, 2*conf.MaxDocument)
	if err != nil {
		return err
	}
	v, ok := conf.Lookup(m, key)
	if !ok {
		e := conf.Errorf(conf.CodeNotFound, "%s has no key %q", doc.Service, key)
		if like := nearest(key, conf.SortedKeys(m)); like != "" {
			return e.WithHint("did you mean %s?", like)
		}
		return e.WithHint("holdfast get %s lists its keys", doc.Service)
	}
	if s, isText := v.(string); raw && (isText || v == nil) {
		a.say("%s", s)
		return nil
	}
	if _, nested := v.(map[string]any); nested && !raw {
		return a.printJSON(v)
	}
	return a.printLine(v)
}

func stale(doc client.Document, most time.Duration) error {
	e := conf.Errorf(conf.CodeStale, "the agent does not say when it last heard from a leader")
	if doc.Age >= 0 {
		e = conf.Errorf(conf.CodeStale, "the agent last heard from a leader %s ago, and --max-age is %s", doc.Age, most)
	}
	return e.WithHint("holdfast health says what is wrong; without --max-age the last known values are shown")
}

func sourceName(source string) string {
	switch source {
	case "lkg":
		return "its last-known-good file"
	case "default":
		return "the defaults of the schema"
	default:
		return source
	}
}
