package localapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// variable is one line of the environment of a document.
type variable struct {
	name  string // without a prefix
	key   string
	value string
	null  bool   // left out unless the caller asks for empty ones
	skip  string // the reason that it is left out, or ""
}

// variables lists the environment: every key in its raw form, an object as JSON
// under its own name and its members under theirs. When two keys make one name, the
// key that is higher in the document has it.
func variables(d *derivedForms) []variable {
	vars := make([]variable, 0, len(d.names))
	owner := map[string]string{}
	depth := func(key string) int { return strings.Count(key, ".") }
	for _, key := range d.names {
		name := conf.VariableName(key)
		if had, taken := owner[name]; !taken || depth(key) < depth(had) {
			owner[name] = key
		}
	}
	for _, key := range d.names {
		v := variable{name: conf.VariableName(key), key: key, value: string(d.values[key].raw.body), null: string(d.values[key].json.body) == "null"}
		switch {
		case owner[v.name] != key:
			v.skip = fmt.Sprintf("%s is the name of %s", v.name, strconv.QuoteToASCII(owner[v.name]))
		case strings.IndexByte(v.value, 0) >= 0:
			v.skip = "its value has a NUL byte"
		}
		vars = append(vars, v)
	}
	return vars
}

// readerNames change how the shell or the loader that reads the file works.
//
// shellNames are variables that a shell sets itself or gives a meaning to. Some are
// read-only, which ends a bash in POSIX mode (UID, PPID), some accept numbers only,
// which ends a dash (OPTIND), some have another value when they are read (SECONDS),
// and some run or stop commands (PS1, TMOUT).
var (
	readerNames = nameSet(`PATH IFS HOME BASH_ENV SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH PYTHONPATH PYTHONHOME
		PYTHONSTARTUP NODE_OPTIONS NODE_PATH PERL5OPT PERL5LIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS GCONV_PATH`)
	shellNames = nameSet(`_ ARGC ARGV BASH BASHPID CHILD_MAX COLUMNS COMPREPLY COMP_CWORD COMP_KEY COMP_LINE COMP_POINT
		COMP_TYPE COMP_WORDBREAKS COMP_WORDS COPROC DIRSTACK EGID EMACS ENV EPOCHREALTIME EPOCHSECONDS ERRNO EUID
		EXECIGNORE FIGNORE FPATH FUNCNAME FUNCNEST GID GLOBIGNORE GLOBSORT GROUPS HISTCMD HISTCONTROL HISTFILE
		HISTFILESIZE HISTSIZE IGNOREEOF KSHEGID KSHGID KSHUID KSH_VERSION LINENO LINES MAILCHECK MAPFILE MODULE_PATH
		NULLCMD OLDPWD OPTARG OPTERR OPTIND PGRP PIPESTATUS POSIXLY_CORRECT PPID PS0 PS1 PS2 PS3 PWD RANDOM
		READLINE_ARGUMENT READLINE_LINE READLINE_MARK READLINE_POINT READNULLCMD REPLY SAVEHIST SECONDS SHLVL SRANDOM
		TIMEFORMAT TMOUT TRY_BLOCK_ERROR TRY_BLOCK_INTERRUPT TTY TTYIDLE UID USERNAME USER_ID WATCH ZDOTDIR
		ZSH_EVAL_CONTEXT ZSH_SUBSHELL ZSH_VERSION`)
)

func nameSet(names string) map[string]bool {
	set := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		set[name] = true
	}
	return set
}

// reserved reports whether a variable of this name changes how the shell or the
// loader that reads the file works, or cannot be set in one of them.
func reserved(name string) bool {
	return readerNames[name] || shellNames[name] || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_") ||
		strings.HasPrefix(name, "BASH_")
}

// withEmptyNulls returns the variables with an empty value for each null.
func withEmptyNulls(vars []variable) []variable {
	out := slices.Clone(vars)
	for i := range out {
		out[i].null = false
	}
	return out
}

// maxDockerLine is the longest line that docker run --env-file reads: it fails at a
// longer one, also in a comment.
const maxDockerLine = bufio.MaxScanTokenSize - 1

// formatShell writes the variables for POSIX sh and the dotenv readers.
func formatShell(vars []variable, prefix string) string {
	return formatEnv(vars, prefix, func(_, value string) (string, string) { return quote(value), "" })
}

// formatDocker writes them for docker run --env-file, which reads everything after
// the first "=" unchanged and cannot have a line break.
func formatDocker(vars []variable, prefix string) string {
	return formatEnv(vars, prefix, func(name, value string) (string, string) {
		switch {
		case strings.ContainsAny(value, "\r\n"):
			return "", "its value has a line break"
		case len(name)+len("=")+len(value) > maxDockerLine:
			return "", fmt.Sprintf("docker reads lines of at most %d bytes", maxDockerLine)
		default:
			return value, ""
		}
	})
}

// formatNode writes them for Node (--env-file, util.parseEnv, the package dotenv), which
// takes what is between two equal quotes as it is, and knows no escape but \n in double
// quotes. The file is not one for a shell.
func formatNode(vars []variable, prefix string) string {
	return formatEnv(vars, prefix, func(_, value string) (string, string) {
		switch {
		case strings.ContainsRune(value, '\r'):
			return "", "its value has a carriage return, which Node makes a line break"
		case safe(value):
			return value, ""
		}
		for _, q := range []string{"'", "`", `"`} {
			if !strings.Contains(value, q) && (q != `"` || !strings.Contains(value, `\n`)) {
				return q + value + q, ""
			}
		}
		return "", "Node has no spelling for a value with all three quotes"
	})
}

// formatPHP writes them for phpdotenv, which knows escapes in double quotes, and refuses a
// whole file with an escape that it does not know, such as that of a shell before a
// backtick. The file is not one for a shell.
func formatPHP(vars []variable, prefix string) string {
	return formatEnv(vars, prefix, func(_, value string) (string, string) {
		if safe(value) {
			return value, ""
		}
		return `"` + phpQuoter.Replace(value) + `"`, ""
	})
}

var phpQuoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`)

// formatJSON writes them as one JSON object of strings. What formatEnv leaves out with a
// comment is not there, and every value is exact.
func formatJSON(vars []variable, prefix string) string {
	out := make(map[string]string, len(vars))
	for _, v := range vars {
		if v.skip == "" && !v.null && !reserved(prefix+v.name) {
			out[prefix+v.name] = v.value
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(out) // strings only
	return b.String()
}

// envFormats are the values of format=.
var envFormats = map[string]func(vars []variable, prefix string) string{
	"sh": formatShell, "docker": formatDocker, "node": formatNode, "php": formatPHP, "json": formatJSON,
}

// formatEnv writes each variable with the text that write returns for its value, or a
// comment with the reason that it is left out.
func formatEnv(vars []variable, prefix string, write func(name, value string) (text, skip string)) string {
	var b strings.Builder
	for _, v := range vars {
		text, skip := "", v.skip
		switch {
		case skip != "":
		case v.null:
			skip = "its value is null; ask with ?nulls=empty"
		case reserved(prefix + v.name):
			skip = prefix + v.name + " would change how the reader runs, or is a shell's own; ask with ?prefix="
		default:
			text, skip = write(prefix+v.name, v.value)
		}
		if skip != "" {
			fmt.Fprintf(&b, "# %s is left out: %s\n", strconv.QuoteToASCII(v.key), skip)
			continue
		}
		b.WriteString(prefix)
		b.WriteString(v.name)
		b.WriteByte('=')
		b.WriteString(text)
		b.WriteByte('\n')
	}
	return b.String()
}

// quote writes a value so that POSIX sh reads it back exactly, and dotenv readers
// (python-dotenv, godotenv, docker compose) too where they and sh have a common
// spelling. In order:
//
//  1. as it is, when every character is safe everywhere; zsh replaces "=" in front of a part;
//  2. in double quotes, when it has a line break and nothing that means something
//     there: phpdotenv and older dotenv-ruby read lines in single quotes as several;
//  3. in single quotes, when it has no single quote, no two backslashes in a row
//     and none at its end (dotenv readers unescape those);
//  4. in double quotes with \ before \ " $ and `; python-dotenv keeps the one
//     before $ and `, there being no spelling that it and sh share;
//  5. with \ before every special character, when it ends in a backslash: dotenv
//     readers lose the closing quote of the other forms and with it the next lines.
func quote(s string) string {
	switch {
	case safe(s) && !strings.HasPrefix(s, "=") && !strings.Contains(s, ":="):
		return s
	case strings.HasSuffix(s, `\`):
		return escapeBare(s)
	case strings.ContainsAny(s, "\r\n") && !strings.ContainsAny(s, "\"$\\`"):
		return `"` + s + `"`
	case !strings.Contains(s, `'`) && !strings.Contains(s, `\\`):
		return `'` + s + `'`
	default:
		return `"` + doubleQuoter.Replace(s) + `"`
	}
}

var doubleQuoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

func safe(s string) bool {
	for i := range len(s) {
		if !safeByte(s[i]) {
			return false
		}
	}
	return true
}

func safeByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-+./,:@%=", c) >= 0
}

func escapeBare(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b.WriteString("'\n'")
		case safeByte(c) || c >= 0x80:
			b.WriteByte(c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String()
}
