package read

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Watch returns the command holdfast watch.
func Watch(a *cli.App) *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "watch SERVICE [KEY]",
		Short: "Show changes of a service as they happen",
		Long: `Show each change of a service's configuration, key by key, until Ctrl-C. Changes in
quick succession may show as one. The watch continues when the agent restarts. With
-o json each change is one line.`,
		Example: `  holdfast watch stt-worker
  holdfast watch stt-worker vad_threshold
  holdfast watch stt-worker --count 1 && systemctl reload stt-worker`,
		Args: cli.Needs("SERVICE", "[KEY]"), ValidArgsFunction: a.CompleteService,
	}
	cmd.Flags().IntVar(&count, "count", 0, "stop after this many changes (0: never)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.Local(false)
		if err != nil {
			return err
		}
		w := watcher{a: a, service: args[0], key: conf.PlainKey(cli.Arg(args, 1)), left: count}
		return w.run(cmd.Context(), c)
	}
	return cmd
}

// watcher prints the changes between the states that a watch yields.
type watcher struct {
	a       *cli.App
	service string
	key     string
	left    int

	started bool
	version uint64
	config  []byte
}

// change is one line of -o json.
type change struct {
	Service  string         `json:"service"`
	Version  uint64         `json:"version"`
	Previous uint64         `json:"previous_version"`
	Epoch    string         `json:"config_epoch"`
	At       string         `json:"updated_at"`
	By       string         `json:"updated_by"`
	Gone     bool           `json:"gone"`
	Changes  []values.Delta `json:"changes"`
}

func (w *watcher) run(ctx context.Context, c *client.Client) error {
	var failure error
	for event, err := range c.Watch(ctx, w.service) {
		if failure = err; err != nil {
			if !w.started {
				return err
			}
			w.a.Note("%s; waiting for it", err)
			continue
		}
		done, err := w.show(event)
		if err != nil || done {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // Ctrl-C is how a watch ends
	}
	return failure
}

// show prints what changed, and reports whether that was the last one to print.
func (w *watcher) show(event client.Event) (done bool, err error) {
	doc := event.Document
	ch := change{
		Service: w.service, Version: doc.Metadata.Version, Previous: w.version, Epoch: doc.Metadata.Epoch,
		At: doc.Metadata.UpdatedAt, By: doc.Metadata.UpdatedBy, Gone: event.Gone,
	}
	all, err := values.Compare(w.config, doc.Config)
	if err != nil {
		return false, err
	}
	first := !w.started
	w.started, w.version, w.config = true, ch.Version, doc.Config
	if first {
		if event.Gone {
			w.a.Note("%s has no configuration yet; waiting for it (Ctrl-C stops)", w.service)
		} else {
			w.a.Note("watching %s, at version %d (Ctrl-C stops)", w.service, ch.Version)
		}
		return false, nil
	}
	ch.Changes = []values.Delta{}
	for _, d := range all {
		if key := conf.PlainKey(d.Key); w.key == "" || key == w.key || strings.HasPrefix(key, w.key+".") {
			ch.Changes = append(ch.Changes, d)
		}
	}
	if len(ch.Changes) == 0 && (w.key != "" || !event.Gone) {
		return false, nil
	}
	if err := w.print(ch); err != nil {
		return false, err
	}
	w.left--
	return w.left == 0, nil
}

func (w *watcher) print(ch change) error {
	if w.a.AsJSON() {
		return w.a.PrintLine(ch)
	}
	if ch.Gone {
		w.a.Say("%s is gone", ch.Service)
	} else {
		w.a.Say("%s %s version %d by %s", cli.Clean(ch.At), ch.Service, ch.Version, cli.Clean(ch.By))
	}
	values.WriteDeltas(w.a.Out, ch.Changes, w.a.Colors())
	return nil
}
