package keys

import (
	"bytes"
	"slices"
	"strings"

	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// replace changes variables of the file under its lock. change gets what the file
// holds and answers the new values; an empty one removes its variable.
func replace(env func(string) (string, bool), envFile string, opts Options, change func(Set, map[string]string) (map[string]string, error)) (Set, error) {
	target, err := lockEnvFile(envFile, opts.LockTimeout)
	if err != nil {
		if conf.CodeOf(err) == conf.CodeLocked {
			return Set{}, err
		}
		return Set{}, cannotRotate(envFile, err)
	}
	defer target.close()
	content, err := readContent(target.path)
	if err != nil {
		return Set{}, err
	}
	file, err := parseEnv(content, envFile)
	if err != nil {
		return Set{}, err
	}
	set, _, err := build(source{env, file, envFile}, opts.Role)
	if err != nil {
		return Set{}, err
	}
	values, err := change(set, file)
	if err != nil || len(values) == 0 {
		return set, err
	}
	next, added, err := rewrite(content, file, values, envFile)
	if err != nil {
		return Set{}, err
	}
	if file, err = parseEnv(next, envFile); err != nil {
		return Set{}, err
	}
	if set, _, err = build(source{env, file, envFile}, opts.Role); err != nil {
		return Set{}, err
	}
	stored, err := target.write(next, content, added)
	switch {
	case err != nil && stored:
		return Set{}, notDurable(envFile, err)
	case err != nil:
		return Set{}, cannotRotate(envFile, err)
	}
	return set, nil
}

// rewrite gives the content with other values: each variable where it stood
// first, a new one behind the one that it belongs to. added are lines that mean the
// same when they are appended, for a file that cannot be replaced.
func rewrite(content []byte, file, values map[string]string, path string) (next []byte, added string, err error) {
	text := map[string]string{}
	var tail strings.Builder
	for _, name := range allNames() {
		v, ok := values[name]
		if !ok {
			continue
		}
		if v == "" {
			tail.WriteString(name + "=\n")
			continue
		}
		l, err := line(name, v)
		if err != nil {
			return nil, "", err
		}
		text[name] = l + "\n"
		tail.WriteString(l + "\n")
	}
	var out bytes.Buffer
	at := 0
	order := allNames()
	flush := func(name string) { // name and what follows it in the order, as far as it is nowhere in the file
		for i := slices.Index(order, name); i >= 0 && i < len(order); i++ {
			if order[i] != name {
				if _, there := file[order[i]]; there || text[order[i]] == "" {
					break
				}
			}
			out.WriteString(text[order[i]])
			delete(text, order[i])
		}
	}
	for _, a := range assignments(content) {
		v, ours := values[a.name]
		if !ours {
			continue
		}
		out.Write(content[at:a.start])
		at = a.end
		if v != "" && text[a.name] != "" {
			flush(a.name)
		}
	}
	out.Write(content[at:])
	if len(text) > 0 {
		if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
			out.WriteByte('\n')
		}
		for _, name := range order {
			out.WriteString(text[name])
		}
	}
	next = out.Bytes()
	if err := sameBut(next, file, values, path); err != nil {
		return nil, "", err
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		added = "\n"
	}
	return next, added + tail.String(), nil
}

// sameBut proves that next says what the file said, and the new values.
func sameBut(next []byte, file, values map[string]string, path string) error {
	is, err := parseEnv(next, path)
	if err != nil {
		return err
	}
	for name := range file {
		if _, ours := values[name]; !ours && is[name] != file[name] {
			return notReadBack(path, name)
		}
	}
	for name, v := range values {
		if is[name] != v {
			return notReadBack(path, name)
		}
	}
	return nil
}

// assignment is where a variable stands in a file, with its whole lines.
type assignment struct {
	name       string
	start, end int
}

// assignments finds them; a quoted value may go over several lines.
func assignments(content []byte) []assignment {
	var out []assignment
	for at := 0; at < len(content); {
		end := lineEnd(content, at)
		text := strings.TrimSpace(string(content[at:end]))
		if text == "" || text[0] == '#' {
			at = end
			continue
		}
		last := end
		for n := 0; n < 64; n++ {
			vars, err := godotenv.UnmarshalBytes(content[at:last])
			if err == nil && len(vars) == 1 {
				for name := range vars {
					out = append(out, assignment{name, at, last})
				}
				end = last
				break
			}
			if last == len(content) {
				break
			}
			last = lineEnd(content, last)
		}
		at = end
	}
	return out
}

func lineEnd(content []byte, at int) int {
	if n := bytes.IndexByte(content[at:], '\n'); n >= 0 {
		return at + n + 1
	}
	return len(content)
}
