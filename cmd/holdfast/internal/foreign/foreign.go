package foreign

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// File is one file to read.
type File struct {
	Name string
	Data []byte
}

// Formats are the formats that Read knows.
func Formats() []string { return []string{"env", "yaml", "properties", "json", "configmap"} }

// reader is what reads a format.
func reader(format string) func(File, *notes) ([]entry, error) {
	switch format {
	case "env":
		return readEnv
	case "yaml":
		return readYAML
	case "json":
		return readJSON
	case "properties":
		return readProperties
	case "configmap":
		return readConfigMap
	default:
		return nil
	}
}

// maxFile is the largest file that is read: a document is not larger.
const maxFile = 4 * conf.MaxDocument

// text is a value of a format that has no types.
type text string

// sealed is a value that the file itself calls a secret.
type sealed string

// entry is one value of a file, or with no key all that a file has.
type entry struct {
	key      string // dotted, unless it is the name of a variable
	variable bool
	value    any
	where    string
}

// Document is what the files have together. Its values are those of JSON, text and sealed.
type Document struct {
	values map[string]any
	notes  notes
}

// Read reads files, of which a later one replaces what an earlier one has. With the fields
// of a schema, a variable and a dotted key mean the field that has this name.
func Read(format string, files []File, fields []conf.Field) (*Document, error) {
	read := reader(format)
	if read == nil {
		return nil, conf.Errorf(conf.CodeUsage, "%q is no format to import from", format).WithHint("use one of %s", strings.Join(Formats(), ", "))
	}
	d := &Document{values: map[string]any{}}
	var all []entry
	for _, f := range files {
		if len(f.Data) > maxFile {
			return nil, conf.Errorf(conf.CodeTooLarge, "%s is over the limit of %d bytes", f.Name, maxFile)
		}
		list, err := read(f, &d.notes)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	m := merger{d: d, from: map[string]string{}, leaves: map[string]bool{}, fields: fields, variables: map[string]conf.Path{}}
	for _, f := range fields {
		m.variables[conf.VariableName(f.Key)] = conf.FieldPath(f)
	}
	for _, e := range all {
		if e.key != "" && !e.variable {
			m.leaves[e.key] = true
		}
	}
	for _, e := range all {
		if e.key == "" {
			m.merge(d.values, e.value.(map[string]any), nil, e.where)
			continue
		}
		m.put(d.values, m.path(e), nil, e.value, e.where)
	}
	if len(d.values) == 0 {
		return nil, conf.Errorf(conf.CodeMalformed, "there is no value in %s", files[0].Name)
	}
	return d, checkNames(d.values)
}

// merger puts entries together.
type merger struct {
	d         *Document
	from      map[string]string // the file and line of each value
	leaves    map[string]bool   // dotted keys that have a value of their own
	fields    []conf.Field
	variables map[string]conf.Path
}

var upper = regexp.MustCompile(`^[A-Z0-9_]+$`)

// path finds the place of an entry in the document.
func (m *merger) path(e entry) conf.Path {
	if e.variable {
		if p, ok := m.variables[e.key]; ok {
			return p
		}
		key := e.key
		if upper.MatchString(key) {
			key = strings.ToLower(key)
		}
		if name := conf.VariableName(key); name != e.key {
			m.d.notes.add("in the environment its name is "+name+", not "+e.key, key)
		}
		return conf.Path{key}
	}
	if len(m.fields) > 0 {
		return conf.ResolveKey(e.key, m.fields, nil)
	}
	// A name stays in one piece where a shorter key has a value: log and log.level.
	var path conf.Path
	at := 0
	for i := range len(e.key) {
		if e.key[i] == '.' && !m.leaves[e.key[:i]] {
			path, at = append(path, e.key[at:i]), i+1
		}
	}
	return append(path, e.key[at:])
}

func (m *merger) put(into map[string]any, path, above conf.Path, value any, where string) {
	at := append(above[:len(above):len(above)], path[0])
	if len(path) > 1 {
		sub, ok := into[path[0]].(map[string]any)
		if !ok {
			m.replaced(into, path[0], at, where)
			sub = map[string]any{}
			into[path[0]] = sub
		}
		m.put(sub, path[1:], at, value, where)
		return
	}
	m.replaced(into, path[0], at, where)
	into[path[0]] = value
	m.from[at.Quoted()] = where
}

// merge adds the members of src to dst, objects into objects.
func (m *merger) merge(dst, src map[string]any, above conf.Path, where string) {
	for _, name := range conf.SortedKeys(src) {
		at := append(above[:len(above):len(above)], name)
		sub, isObject := src[name].(map[string]any)
		if old, ok := dst[name].(map[string]any); ok && isObject {
			m.merge(old, sub, at, where)
			continue
		}
		m.replaced(dst, name, at, where)
		if isObject && len(sub) > 0 {
			empty := map[string]any{}
			dst[name] = empty
			m.merge(empty, sub, at, where)
			continue
		}
		dst[name] = src[name]
		m.from[at.Quoted()] = where
	}
}

// replaced says that what dst has is replaced.
func (m *merger) replaced(dst map[string]any, name string, at conf.Path, where string) {
	if _, had := dst[name]; !had {
		return
	}
	earlier := m.from[at.Quoted()]
	if earlier == "" {
		earlier = "an earlier one"
	}
	m.d.notes.add(fmt.Sprintf("that of %s is replaced by that of %s", earlier, where), at.Key())
}

// checkNames rejects names that no schema admits, all at once.
func checkNames(doc map[string]any) error {
	var bad []conf.FieldError
	var visit func(v any, at conf.Path)
	visit = func(v any, at conf.Path) {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range conf.SortedKeys(v) {
				path := append(at[:len(at):len(at)], name)
				if conf.CheckAnyKey(name) != nil {
					bad = append(bad, conf.FieldError{Key: conf.Clip(path.Key()), Message: "bad name " + strconv.Quote(conf.Clip(name))})
				}
				visit(v[name], path)
			}
		case []any:
			for _, e := range v {
				visit(e, at)
			}
		}
	}
	visit(doc, nil)
	if len(bad) == 0 {
		return nil
	}
	e := conf.Errorf(conf.CodeInvalid, "%s: no schema admits %d of the names in the files", bad[0].Message, len(bad)).
		WithHint("names are letters, digits and _ - $, with dots between them: rename them in the file")
	e.Details = bad[:min(len(bad), manyBad)]
	return e
}

// manyBad is how many bad names an error lists.
const manyBad = 20

// notes is what a person should know, each reason with the keys that it holds for.
type notes struct {
	reasons []string
	keys    map[string][]string
}

func (n *notes) add(reason, key string) {
	if n.keys == nil {
		n.keys = map[string][]string{}
	}
	if _, had := n.keys[reason]; !had {
		n.reasons = append(n.reasons, reason)
	}
	if !slices.Contains(n.keys[reason], key) {
		n.keys[reason] = append(n.keys[reason], key)
	}
}

// manyKeys is how many keys a note names.
const manyKeys = 8

func (n *notes) lines() (out []string) {
	for _, reason := range n.reasons {
		keys := n.keys[reason]
		list := strings.Join(keys[:min(len(keys), manyKeys)], ", ")
		if more := len(keys) - manyKeys; more > 0 {
			list += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, list+": "+reason)
	}
	return out
}
