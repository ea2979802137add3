package read

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Get returns the command holdfast get.
func Get(a *cli.App) *cobra.Command {
	var raw, viaAdmin, secrets bool
	var maxAge time.Duration
	cmd := &cobra.Command{
		Use:   "get SERVICE [KEY]",
		Short: "Read a service's configuration, or one value of it",
		Long: `Read the configuration of a service as the service sees it, from the local
API of the agent; no token is needed. Keys of nested objects are dotted.

A key prints as JSON, with --raw as bare text for shell scripts. Without a key,
--raw prints the document alone, as JSON.`,
		Example: `  holdfast get stt-worker
  holdfast get stt-worker vad_threshold
  model=$(holdfast get stt-worker whisper_model --raw)
  holdfast get stt-worker --raw > stt-worker.json`,
		Args: cli.Needs("SERVICE", "[KEY]"), ValidArgsFunction: a.CompleteService,
	}
	f := cmd.Flags()
	f.BoolVar(&raw, "raw", false, "print the bare value: text without quotes, or the document alone")
	f.BoolVar(&viaAdmin, "admin", false, "read from the admin API instead; needs a token")
	f.BoolVar(&secrets, "secrets", false, "include secrets; needs the agent's local-token file")
	f.DurationVar(&maxAge, "max-age", 0, "fail with exit code 8 when the agent last heard from a leader longer ago")
	cmd.MarkFlagsMutuallyExclusive("admin", "secrets")
	cmd.MarkFlagsMutuallyExclusive("admin", "max-age")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect(a, viaAdmin, secrets)
		if err != nil {
			return err
		}
		var doc client.Document
		if viaAdmin {
			doc.ReadResponse, err = c.Service(cmd.Context(), args[0])
		} else {
			doc, err = c.Document(cmd.Context(), args[0])
		}
		if err != nil {
			return err
		}
		if maxAge > 0 && (doc.Age < 0 || doc.Age > maxAge) {
			return stale(doc, maxAge)
		}
		if doc.Source != "" && doc.Source != "replica" {
			a.Note("note: the agent serves this from %s, not from its store", sourceName(doc.Source))
		}
		if len(args) == 2 {
			return printKey(a, doc, args[1], raw)
		}
		return printDocument(a, doc, raw)
	}
	return cmd
}

// connect returns a client of the API that the flags of a command select.
func connect(a *cli.App, viaAdmin, secrets bool) (*client.Client, error) {
	if viaAdmin {
		return a.Admin(conf.RoleRead)
	}
	return a.Local(secrets)
}

func printDocument(a *cli.App, doc client.Document, raw bool) error {
	switch {
	case raw:
		return a.PrintJSON(doc.Config)
	case a.AsJSON():
		return a.PrintJSON(doc.ReadResponse)
	}
	flat, err := values.Flatten(doc.Config)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, k := range conf.SortedKeys(flat) {
		rows = append(rows, []string{k, string(flat[k])})
	}
	return a.Table([]string{"KEY", "VALUE"}, rows)
}

func printKey(a *cli.App, doc client.Document, key string, raw bool) error {
	m, err := conf.ParseObject(doc.Config, 2*conf.MaxDocument)
	if err != nil {
		return err
	}
	v, ok := conf.Lookup(m, key)
	if !ok {
		e := conf.Errorf(conf.CodeNotFound, "%s has no key %q", doc.Service, key)
		if like := cli.Nearest(key, conf.SortedKeys(m)); like != "" {
			return e.WithHint("did you mean %s?", like)
		}
		return e.WithHint("holdfast get %s lists its keys", doc.Service)
	}
	if s, isText := v.(string); raw && (isText || v == nil) {
		a.Say("%s", s)
		return nil
	}
	if _, nested := v.(map[string]any); nested && !raw {
		return a.PrintJSON(v)
	}
	return a.PrintLine(v)
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
