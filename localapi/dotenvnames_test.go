package localapi

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// knownToShells are the variables that the manuals of bash, dash, ksh and zsh give a
// meaning to. The test adds those that the shells of this machine list.
const knownToShells = `ARGC ARGV BASH BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND
BASH_COMPAT BASH_EXECUTION_STRING BASH_LINENO BASH_LOADABLES_PATH BASH_MONOSECONDS BASH_REMATCH BASH_SOURCE BASH_SUBSHELL
BASH_TRAPSIG BASH_VERSINFO BASH_VERSION BASH_XTRACEFD CHILD_MAX COLUMNS COMP_CWORD COMP_WORDBREAKS COMPREPLY COPROC CPUTYPE
DIRSTACK EGID EMACS ENV EPOCHREALTIME EPOCHSECONDS ERRNO EUID EXECIGNORE FCEDIT FIGNORE FPATH FUNCNAME FUNCNEST GID GLOBIGNORE
GLOBSORT GROUPS HISTCMD HISTCONTROL HISTFILE HISTFILESIZE HISTSIZE HISTTIMEFORMAT HOSTNAME HOSTTYPE IGNOREEOF INPUTRC KSH_VERSION
LINENO LINES LOGNAME MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE MODULE_PATH NULLCMD OLDPWD OPTARG OPTERR OPTIND OSTYPE PATHSEP PGRP
PIPESTATUS POSIXLY_CORRECT PPID PS0 PS1 PS2 PS3 PSVAR PWD RANDOM READLINE_LINE READNULLCMD REPLY SAVEHIST SECONDS SHELL SHELLOPTS
SHLVL SIGNALS SRANDOM TIMEFORMAT TMOUT TMPDIR TTY TTYIDLE TRY_BLOCK_ERROR UID USER USERNAME USER_ID VENDOR VISUAL WATCH WORDCHARS
ZDOTDIR ZSH_VERSION`

// What the shell that reads the file owns cannot be a variable of a configuration:
// UID ends a bash in POSIX mode, OPTIND ends a dash, SECONDS counts.
func TestEnvLeavesNamesToTheShell(t *testing.T) {
	shells := map[string][]string{
		"sh": {"/bin/sh", "-eu"}, "bash": {"bash", "-eu"}, "bash --posix": {"bash", "--posix", "-eu"},
		"dash": {"dash", "-eu"}, "ksh": {"ksh", "-eu"}, "mksh": {"mksh", "-eu"}, "zsh": {"zsh", "-fe"},
	}
	names := strings.Fields(knownToShells)
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", "compgen -v").Output(); err == nil {
		for _, name := range strings.Fields(string(out)) {
			if name == strings.ToUpper(name) && name != "_" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	config := map[string]any{"ordinary": "kept"}
	for i, name := range names {
		if config[strings.ToLower(name)] = "it's " + name; i%2 == 0 {
			config[strings.ToLower(name)] = json.Number("4711")
		}
	}
	d := (&Renderer{}).Render(record("a", 1, string(encode(config)))).plain.derived.get()
	if d.err != nil {
		t.Fatal(d.err)
	}
	text := formatShell(d.vars, "")
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"UID", "EUID", "PPID", "SECONDS", "GROUPS", "RANDOM", "BASHOPTS", "SHELLOPTS", "TMOUT"} {
		if !strings.Contains(text, " is left out: "+name+" would change") {
			t.Errorf("%s is not left out with a comment", name)
		}
		if !strings.Contains(formatShell(d.vars, "A_"), "\nA_"+name+"=") {
			t.Errorf("%s is left out although a prefix makes it harmless", name)
		}
	}
	ran := 0
	for title, shell := range shells {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		ran++
		script := `set -a; eval "$(cat "$1")"; set +a; /usr/bin/true; exec /usr/bin/env -0`
		cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", script, "sh", file)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("%s: %v: %s", title, err, &stderr)
			continue
		}
		got := map[string]string{}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			name, value, _ := strings.Cut(line, "=")
			got[name] = value
		}
		for _, v := range d.vars {
			if strings.Contains("\n"+text, "\n"+v.name+"=") && got[v.name] != v.value {
				t.Errorf("%s: %s is %q, want %q", title, v.name, got[v.name], v.value)
			}
		}
		if got["ORDINARY"] != "kept" {
			t.Errorf("%s: the file was not read", title)
		}
	}
	if ran == 0 {
		base.Missing(t, "no shell to test with")
	}
}
