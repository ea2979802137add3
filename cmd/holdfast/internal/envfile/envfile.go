package envfile

import (
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Parse reads NAME=word lines with the quoting of POSIX sh, and comments. It
// expands nothing: the agent quotes whatever a shell would.
func Parse(text string) (map[string]string, error) {
	vars := map[string]string{}
	for text != "" {
		if text[0] == '#' || text[0] == '\n' {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		name, rest, ok := strings.Cut(text, "=")
		if !ok || strings.ContainsAny(name, " \t\n'\"\\") {
			return nil, conf.Errorf(conf.CodeInternal, "the agent's answer is not a .env file")
		}
		value, after, err := shellWord(rest)
		if err != nil {
			return nil, err
		}
		vars[name], text = value, after
	}
	return vars, nil
}

// shellWord reads one word up to the end of its line.
func shellWord(s string) (word, rest string, err error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == 0 && c == '\n':
			return b.String(), s[i+1:], nil
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			if quote == '"' && !strings.ContainsRune("\\\"$`\n", rune(s[i])) {
				b.WriteByte('\\')
			}
			if s[i] != '\n' {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", conf.Errorf(conf.CodeInternal, "the agent's answer is not a .env file: a quote is not closed")
	}
	return b.String(), "", nil
}

// Merge is an environment, as NAME=value, with the variables added; one of base that has the
// name of a variable is replaced.
func Merge(base []string, vars map[string]string) (env []string) {
	for _, e := range base {
		name, _, _ := strings.Cut(e, "=")
		if _, replaced := vars[name]; !replaced {
			env = append(env, e)
		}
	}
	for _, name := range conf.SortedKeys(vars) {
		env = append(env, name+"="+vars[name])
	}
	return env
}
