package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

var update = flag.Bool("update", false, "write the generated parts of docs/settings.md and docs/cli.md")

// The tables of the manual are those of the code.
func TestDocsTables(t *testing.T) {
	for page, section := range map[string][2]string{
		"settings.md": {"settings", settingsTable()},
		"cli.md":      {"exit codes", exitTable()},
	} {
		path := "../../docs/" + page
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		want := replaceSection(t, text, section[0], section[1])
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if text != want {
			t.Errorf("%s is behind the code: run go test ./cmd/holdfast -run TestDocs -update", path)
		}
	}
}

// Every command of the tree and every subcommand has a place in the manual or in
// its own help: a short text, and arguments that are said.
func TestEveryCommandIsExplained(t *testing.T) {
	root := newRoot(&cli.App{LookupEnv: func(string) (string, bool) { return "", false }})
	for _, cmd := range root.Commands() {
		if cmd.Short == "" {
			t.Errorf("%s has no short text", cmd.Name())
		}
		if cmd.GroupID == "" && cmd.Name() != "help" && cmd.Name() != "completion" {
			t.Errorf("%s is in no group", cmd.Name())
		}
		for _, sub := range cmd.Commands() {
			if sub.Short == "" {
				t.Errorf("%s %s has no short text", cmd.Name(), sub.Name())
			}
		}
	}
}

func replaceSection(t *testing.T, text, name, table string) string {
	t.Helper()
	begin, end := "<!-- "+name+":", "<!-- /"+name+" -->"
	i := strings.Index(text, begin)
	j := strings.Index(text, end)
	if i < 0 || j < i {
		t.Fatalf("no section %q", name)
	}
	first := i + strings.IndexByte(text[i:], '\n') + 1
	return text[:first] + table + text[j:]
}

func settingsTable() string {
	var b strings.Builder
	o := options.Defaults()
	group := ""
	for _, s := range options.Settings(&o) {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "\n**%s**\n\n| variable | flag | default | |\n|---|---|---|---|\n", group)
		}
		value := s.Get()
		if value != "" {
			value = "`" + value + "`"
		}
		usage := strings.NewReplacer("<", "`", ">", "`").Replace(s.Usage)
		usage = strings.ReplaceAll(usage, "`service`.json", "`SERVICE.json`")
		fmt.Fprintf(&b, "| `%s` | `--%s` | %s | %s |\n", s.Env, s.Flag, value, usage)
	}
	b.WriteString("\n")
	return b.String()
}

func exitTable() string {
	names := map[int]string{
		cli.ExitError: "error", cli.ExitUsage: "a flag, an argument or a setting is wrong", cli.ExitNotFound: "not found",
		cli.ExitConflict: "somebody else wrote first", cli.ExitDenied: "not allowed",
		cli.ExitReadOnly: "read-only, or no quorum: nothing was written", cli.ExitInvalid: "invalid or malformed", cli.ExitStale: "too old for what was asked",
	}
	var b strings.Builder
	b.WriteString("\n| exit code | meaning | error codes |\n|---|---|---|\n| 0 | success | |\n")
	for code := cli.ExitError; code <= cli.ExitStale; code++ {
		var list []string
		for _, c := range conf.Codes() {
			if cli.ExitCodes[c] == code {
				list = append(list, "`"+string(c)+"`")
			}
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", code, names[code], strings.Join(list, ", "))
	}
	b.WriteString("\n")
	return b.String()
}
