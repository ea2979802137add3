package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
)

func newWatch(a *app) *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "watch SERVICE [KEY]",
		Short: "Show changes of a service as they happen",
		Long: `Show each change of a service's configuration, key by key, until Ctrl-C. Changes in
quick succession may show as one. The watch outlives restarts of the agent. With
-o json each change is one line.`,
		Example: `  holdfast watch stt-worker
  holdfast watch stt-worker vad_threshold
  holdfast watch stt-worker --count 1 && systemctl reload stt-worker`,
		Args: needs("SERVICE", "[KEY]"), ValidArgsFunction: a.completeService,
	}
	cmd.Flags().IntVar(&count, "count", 0, "stop after this many changes (0: never)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.local()
		if err != nil {
			return err
		}
		w := watcher{a: a, service: args[0], left: count}
		if len(args) == 2 {
			w.key = args[1]
		}
		return w.run(cmd.Context(), c)
	}
	return cmd
}

// watcher tells the changes between the states that a watch yields.
type watcher struct {
	a       *app
	service string
	key     string
	left    int

	started bool
	version uint64
	config  []byte
}

// change is one line of -o json.
type change struct {
	Service  string  `json:"service"`
	Version  uint64  `json:"version"`
	Previous uint64  `json:"previous_version"`
	Epoch    string  `json:"config_epoch"`
	At       string  `json:"updated_at"`
	By       string  `json:"updated_by"`
	Gone     bool    `json:"gone"`
	Changes  []delta `json:"changes"`
}

func (w *watcher) run(ctx context.Context, c *client.Client) error {
	var failure error
	for event, err := range c.Watch(ctx, w.service) {
		if failure = err; err != nil {
			if !w.started {
				return err
			}
			w.a.note("%s; waiting for it", err)
			continue
		}
		done, err := w.tell(event)
		if err != nil || done {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // Ctrl-C is how a watch ends
	}
	return failure
}

// tell prints what changed, and says whether that was enough.
func (w *watcher) tell(event client.Event) (done bool, err error) {
	doc := event.Document
	ch := change{
		Service: w.service, Version: doc.Metadata.Version, Previous: w.version, Epoch: doc.Metadata.Epoch,
		At: doc.Metadata.UpdatedAt, By: doc.Metadata.UpdatedBy, Gone: event.Gone,
	}
	all, err := deltas(w.config, doc.Config)
	if err != nil {
		return false, err
	}
	first := !w.started
	w.started, w.version, w.config = true, ch.Version, doc.Config
	if first {
		if event.Gone {
			w.a.note("%s has no configuration yet; waiting for it (Ctrl-C stops)", w.service)
		} else {
			w.a.note("watching %s, at version %d (Ctrl-C stops)", w.service, ch.Version)
		}
		return false, nil
	}
	ch.Changes = []delta{}
	for _, d := range all {
		if w.key == "" || d.Key == w.key || strings.HasPrefix(d.Key, w.key+".") {
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
	if w.a.asJSON() {
		return w.a.printLine(ch)
	}
	if ch.Gone {
		w.a.say("%s is gone", ch.Service)
	} else {
		w.a.say("%s %s version %d by %s", clean(ch.At), ch.Service, ch.Version, clean(ch.By))
	}
	writeDeltas(w.a.out, ch.Changes, w.a.colours())
	return nil
}
