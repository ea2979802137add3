package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// AsJSON reports whether the user requested JSON.
func (a *App) AsJSON() bool { return a.output == "json" }

// JSON returns v as text with a line end: indented for a person, or with "" on one
// line.
func JSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// PrintJSON writes v indented. Its members and their names are those of the HTTP
// API, and as stable.
func (a *App) PrintJSON(v any) error { return printJSON(a.Out, v, "  ") }

// PrintLine writes v as one line of JSON.
func (a *App) PrintLine(v any) error { return printJSON(a.Out, v, "") }

func printJSON(w io.Writer, v any, indent string) error {
	text, err := JSON(v, indent)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// Print writes a result: v when the user requested JSON, else the text.
func (a *App) Print(v any, format string, args ...any) error {
	if a.AsJSON() {
		return a.PrintJSON(v)
	}
	a.Say(format, args...)
	return nil
}

// Say writes a line of result for a person.
func (a *App) Say(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }

// Note writes a line that is not a result. The commands in it can be typed as they are.
func (a *App) Note(format string, args ...any) {
	fmt.Fprintln(a.Err, Runnable(fmt.Sprintf(format, args...)))
}

// Table writes rows in aligned columns under a header; nil is none.
func (a *App) Table(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.Out, 0, 4, 2, ' ', tabwriter.StripEscape)
	line := func(cells []string) {
		for i, c := range cells {
			if i > 0 {
				io.WriteString(w, "\t")
			}
			io.WriteString(w, Cell(c))
		}
		io.WriteString(w, "\n")
	}
	if header != nil {
		line(header)
	}
	for _, r := range rows {
		line(r)
	}
	return w.Flush()
}

// Change is the result of a change of a service, as -o json prints it.
type Change struct {
	Service string `json:"service"`
	Version uint64 `json:"version"`
	Changed bool   `json:"changed"`
	Rollout string `json:"rollout,omitempty"` // that it began
}

// ChangeOf is an outcome without the document.
func ChangeOf(out conf.Outcome) Change {
	return Change{Service: out.Service, Version: out.Version, Changed: out.Changed, Rollout: out.Rollout}
}

// PrintChange writes the result of a change, or returns its error.
func (a *App) PrintChange(out conf.Outcome, err error) error {
	if err != nil {
		return err
	}
	if !out.Changed {
		return a.Print(ChangeOf(out), "%s: nothing changed, still version %d", out.Service, out.Version)
	}
	if out.Rollout != "" {
		a.Note("some instances get it first: holdfast rollout status %s --wait", out.Rollout)
		return a.Print(ChangeOf(out), "%s: version %d is the candidate of rollout %s", out.Service, out.Version, out.Rollout)
	}
	return a.Print(ChangeOf(out), "%s: version %d", out.Service, out.Version)
}

// NoteStale says which profiles a schema has made stale, on the standard error: it is no
// reason to fail.
func NoteStale(a *App, stale []conf.StaleProfile) {
	for _, s := range stale {
		why := ""
		if s.Error != "" {
			why = ": " + s.Error
		}
		a.Note("profile %s is stale: %s does not accept its values%s", s.Profile, s.Service, why)
	}
}

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(stream any) bool {
	if w, ok := stream.(interface{ Unwrap() io.Writer }); ok {
		stream = w.Unwrap()
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colors reports whether results are printed in color (https://no-color.org).
func (a *App) Colors() bool {
	if v, ok := a.LookupEnv("NO_COLOR"); ok && v != "" {
		return false
	}
	if v, _ := a.LookupEnv("TERM"); v == "dumb" {
		return false
	}
	return IsTerminal(a.Out)
}
