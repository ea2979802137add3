package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// List prints a list: as JSON when the user requested it,
// else as a table with a row for each thing.
type List[T any] struct {
	Columns []string
	Row     func(T) []string
	Empty   string // the note in place of a table without rows; "" prints the header alone

	One, Many string // what the things of a page are called
}

// Command completes cmd, which lists all that get returns from the admin API. In
// JSON the list is the member name of an object.
func (l List[T]) Command(a *App, cmd *cobra.Command, name string, get func(*client.Client, context.Context) ([]T, error)) *cobra.Command {
	cmd.Args = Needs()
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
		items, err := get(c, ctx)
		if err != nil {
			return err
		}
		return l.Print(a, map[string]any{name: items}, items)
	})
	return cmd
}

// Print writes items. response is what the API returned, which is the JSON.
func (l List[T]) Print(a *App, response any, items []T) error {
	switch {
	case a.AsJSON():
		return a.PrintJSON(response)
	case len(items) == 0 && l.Empty != "":
		a.Note("%s", l.Empty)
		return nil
	}
	return l.table(a, items)
}

// PrintPage is Print for a page of total items. A note says how many there are.
func (l List[T]) PrintPage(a *App, response any, items []T, total int) error {
	if a.AsJSON() {
		return a.PrintJSON(response)
	}
	if len(items) > 0 {
		if err := l.table(a, items); err != nil {
			return err
		}
	}
	noun := l.Many
	if total == 1 {
		noun = l.One
	}
	if len(items) < total {
		a.Note("%d of %d %s; --limit and --offset show the others", len(items), total, noun)
	} else {
		a.Note("%d %s", total, noun)
	}
	return nil
}

func (l List[T]) table(a *App, items []T) error {
	rows := make([][]string, len(items))
	for i, item := range items {
		rows[i] = l.Row(item)
	}
	return a.Table(l.Columns, rows)
}
