package keys

import (
	"bytes"
	"slices"
	"strings"

	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// editEnvFile changes path under its lock. change receives the content and its
// variables, and returns the next content and block, which means the same when it is
// appended to the content. An empty block leaves the file unchanged. cannot makes the
// error for a file that cannot be written.
func editEnvFile(src source, opts Options, cannot func(error) error, change func(content []byte, src source) (next []byte, block string, err error)) error {
	target, err := lockEnvFile(src.path, opts.LockTimeout)
	if err != nil {
		if conf.CodeOf(err) == conf.CodeLocked {
			return err
		}
		return cannot(err)
	}
	defer target.close()
	content, err := readContent(target.path)
	if err != nil {
		return err
	}
	if src, err = src.with(content); err != nil {
		return err
	}
	next, block, err := change(content, src)
	if err != nil || block == "" {
		return err
	}
	stored, err := target.write(next, content, block)
	switch {
	case err != nil && stored:
		return conf.Errorf(conf.CodeInternal, "keys are written to %s, but may not survive a power failure: %w", src.path, err).
			WithHint("check the disk, then start again")
	case err != nil:
		return cannot(err)
	}
	return nil
}

// headingEnd ends the comment over lines that were written by appendLines.
const headingEnd = "and give it to nobody."

// appendLines appends lines, below a header, to content. block is what it appended,
// and after looks variables up in the result.
func appendLines(content []byte, src source, what string, lines []string) (next []byte, block string, after source, err error) {
	block = "\n# " + what + ". Secret: keep a copy in a safe place, " + headingEnd + "\n"
	if len(content) == 0 {
		block = block[1:]
	} else if content[len(content)-1] != '\n' {
		block = "\n" + block
	}
	block += strings.Join(lines, "\n") + "\n"
	next = append(content[:len(content):len(content)], block...)
	after, err = src.with(next)
	return next, block, after, err
}

func notReadBack(path, name string) error {
	return conf.Errorf(conf.CodeInvalid, "lines appended to %s are not read back (%s)", path, name).
		WithHint("look for a quote that is not closed at the end of %s", path)
}

// changeKey changes the variables of a kind of key, and returns the Set of the file
// afterwards. change receives the Set and the variables of the file, and returns the
// new values; an empty one removes its variable.
func changeKey(env func(string) (string, bool), envFile, kind string, opts Options, change func(slots, Set, map[string]string) (map[string]string, error)) (set Set, err error) {
	opts = opts.withDefaults()
	s, err := fileSlots(env, kind, opts.Role)
	if err != nil {
		return Set{}, err
	}
	cannot := func(cause error) error { return cannotRotate(envFile, cause) }
	err = editEnvFile(source{env: env, path: envFile}, opts, cannot, func(content []byte, src source) (next []byte, block string, err error) {
		if set, _, err = build(src, opts.Role); err != nil {
			return nil, "", err
		}
		values, err := change(s, set, src.file)
		if err != nil || len(values) == 0 {
			return nil, "", err
		}
		if next, block, err = rewrite(content, src.file, values, envFile); err != nil {
			return nil, "", err
		}
		if src, err = src.with(next); err == nil {
			set, _, err = build(src, opts.Role)
		}
		return next, block, err
	})
	if err != nil {
		return Set{}, err
	}
	return set, nil
}

// rewrite returns content with other values: a variable keeps its place, and a new one
// follows the one that it belongs to. added has lines that mean the same when they are
// appended, for a file that cannot be replaced.
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
	flush := func(name string) { // writes name, and those after it in the order that the file lacks
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
		v, ok := values[a.name]
		if !ok {
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
	if err := checkRewritten(next, file, values, path); err != nil {
		return nil, "", err
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		added = "\n"
	}
	return next, added + tail.String(), nil
}

// checkRewritten verifies that next has the variables of the file, with the new values.
func checkRewritten(next []byte, file, values map[string]string, path string) error {
	is, err := parseEnv(next, path)
	if err != nil {
		return err
	}
	for name := range file {
		if _, changed := values[name]; !changed && is[name] != file[name] {
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

// assignment is the position of a variable in a file: its whole lines.
type assignment struct {
	name       string
	start, end int
}

// assignments returns all of a file. A quoted value may span several lines.
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
