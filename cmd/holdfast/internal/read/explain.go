package read

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Explain returns the command holdfast explain.
func Explain(a *cli.App) *cobra.Command {
	var viaAdmin, secrets bool
	cmd := &cobra.Command{
		Use:   "explain SERVICE [KEY]",
		Short: "Show the source of each value and what it overrides",
		Long: `Show for each field the source of its value. The environment of the agent overrides
the stored value, which overrides the default of the schema. HIDES lists the
overridden sources that have a value too.`,
		Example: `  holdfast explain stt-worker
  holdfast explain stt-worker db.password --secrets`,
		Args: cli.Needs("SERVICE", "[KEY]"), ValidArgsFunction: a.CompleteService,
	}
	cmd.Flags().BoolVar(&viaAdmin, "admin", false, "ask the admin API instead; needs a token")
	cmd.Flags().BoolVar(&secrets, "secrets", false, "show the values of secrets; needs the agent's local-token file")
	cmd.MarkFlagsMutuallyExclusive("admin", "secrets")
	out := cli.List[conf.Explained]{
		Columns: []string{"KEY", "FROM", "VALUE", "SET BY", "HIDES"},
		Row:     explained,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect(a, viaAdmin, secrets)
		if err != nil {
			return err
		}
		explain := c.LocalExplain
		if viaAdmin {
			explain = c.Explain
		}
		x, err := explain(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if len(args) == 2 {
			if err := onlyField(&x, conf.PlainKey(args[1])); err != nil {
				return err
			}
		}
		return out.Print(a, x, x.Fields)
	}
	return cmd
}

// explained is the row of a field.
func explained(f conf.Explained) []string {
	row := []string{f.Key, "nothing", "", "", ""}
	if w := f.Winner; w != nil {
		row = []string{f.Key, string(w.Source), cli.Brief(string(w.Value), 40), origin(*w), ""}
	}
	hidden := make([]string, len(f.Shadows))
	for i, l := range f.Shadows {
		hidden[i] = string(l.Source) + " " + cli.Brief(string(l.Value), 40)
		if o := origin(l); o != "" {
			hidden[i] += " (" + o + ")"
		}
	}
	row[4] = strings.Join(hidden, "; ")
	return row
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
	if like := cli.Nearest(key, keys); like != "" {
		return e.WithHint("did you mean %s?", like)
	}
	return e.WithHint("holdfast explain %s lists all of them", x.Service)
}

// origin says what set a value.
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
