package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// The limits of what the aliases of one YAML document may grow to.
const (
	maxNodes = 200_000
	maxDepth = 64
)

func readYAML(f File, n *notes) ([]entry, error) {
	docs, err := yamlDocuments(f, n)
	if err != nil {
		return nil, err
	}
	if len(docs) > 1 {
		return nil, conf.Errorf(conf.CodeMalformed, "%s has more than one YAML document", f.Name).
			WithHint("name the one that counts: split the file at its --- lines")
	}
	return whole(f, docs[0])
}

// whole is the entry of a file that is one object.
func whole(f File, v any) ([]entry, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, conf.Errorf(conf.CodeMalformed, "%s holds %s, not an object", f.Name, conf.KindOf(v)).WithHint("configuration has names at its top")
	}
	return []entry{{value: m, where: f.Name}}, nil
}

// yamlDocuments reads all documents of a file; an empty one is nil.
func yamlDocuments(f File, n *notes) ([]any, error) {
	data := bytes.TrimPrefix(f.Data, bom)
	if !utf8.Valid(data) {
		return nil, notText(f.Name)
	}
	var out []any
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, conf.Errorf(conf.CodeMalformed, "%s is not YAML: %s", f.Name, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(doc.Content) != 1 {
			continue
		}
		r := yamlReader{file: f.Name, notes: n}
		v, err := r.value(doc.Content[0], nil, 0)
		if err != nil {
			return nil, err
		}
		if v != nil {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return nil, conf.Errorf(conf.CodeMalformed, "%s is empty", f.Name)
	}
	return out, nil
}

// yamlReader turns the nodes of one document into values of JSON.
type yamlReader struct {
	file  string
	notes *notes
	nodes int
}

func (r *yamlReader) bad(n *yaml.Node, format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeMalformed, "%s: line %d: "+format, append([]any{r.file, n.Line}, args...)...)
}

func (r *yamlReader) value(n *yaml.Node, at conf.Path, depth int) (any, error) {
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		return nil, r.bad(n, "the document is too large or too deep, with its aliases")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.value(n.Alias, at, depth+1)
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for i, c := range n.Content {
			v, err := r.value(c, append(at[:len(at):len(at)], strconv.Itoa(i)), depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.MappingNode:
		return r.mapping(n, at, depth)
	}
	return r.scalar(n, at)
}

func (r *yamlReader) mapping(n *yaml.Node, at conf.Path, depth int) (map[string]any, error) {
	out, own := map[string]any{}, map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" {
			if err := r.mergeKey(out, own, v, at, depth); err != nil {
				return nil, err
			}
			continue
		}
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!null" {
			return nil, r.bad(k, "the name of a member is not text")
		}
		name := k.Value // as it is spelled: on stays on
		if own[name] {
			return nil, r.bad(k, "the name %q comes twice", conf.Clip(name))
		}
		value, err := r.value(v, append(at[:len(at):len(at)], name), depth+1)
		if err != nil {
			return nil, err
		}
		out[name], own[name] = value, true
	}
	return out, nil
}

// mergeKey adds the members of what <<: names, which those of the mapping itself override.
func (r *yamlReader) mergeKey(out map[string]any, own map[string]bool, v *yaml.Node, at conf.Path, depth int) error {
	list := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		list = v.Content
	}
	for _, source := range list {
		merged, err := r.value(source, at, depth+1)
		if err != nil {
			return err
		}
		m, ok := merged.(map[string]any)
		if !ok {
			return r.bad(v, "<< does not name a mapping")
		}
		for name, value := range m {
			if _, had := out[name]; !had && !own[name] {
				out[name] = value
			}
		}
	}
	return nil
}

var (
	jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	// commonNumber is a number to the readers of YAML 1.1 and of 1.2, and the same one.
	commonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+([eE][+-][0-9]+)?)?$`)
	// special is what readers of YAML 1.1 do not take for text, beyond what ShortTag tells.
	special = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$|^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$|^[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?$`)
)

const ambiguous = "it stays text, since readers of YAML differ on it: put quotes around it, or write 17, 0.5, true or null"

func (r *yamlReader) scalar(n *yaml.Node, at conf.Path) (any, error) {
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if n.Style&yaml.TaggedStyle != 0 {
		switch tag := n.ShortTag(); {
		case tag == "!!str":
			return n.Value, nil
		case tag == "!!null" && n.Value == "":
			return nil, nil
		case tag == "!!int" || tag == "!!float" || tag == "!!bool" || tag == "!!null":
			quoted = false
		default:
			return nil, r.bad(n, "the tag %s is not read", conf.Clip(tag)).WithHint("write the value itself")
		}
	}
	if quoted {
		return n.Value, nil
	}
	switch n.Value {
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	case "", "~", "null", "Null", "NULL":
		return nil, nil
	}
	if commonNumber.MatchString(n.Value) {
		return number(n.Value, at, r.notes), nil
	}
	if tag := n.ShortTag(); tag != "!!str" || special.MatchString(n.Value) {
		r.notes.add(ambiguous, at.Key())
	}
	return n.Value, nil
}

// number is a number, or its text when a reader of JSON would change it.
func number(s string, at conf.Path, n *notes) any {
	if _, err := conf.ParseJSON([]byte(s), len(s)); err != nil {
		n.add("it stays text, since a number beyond 2^53 does not survive in JSON", at.Key())
		return s
	}
	return json.Number(s)
}

func readJSON(f File, n *notes) ([]entry, error) {
	v, err := parseJSON(f, n)
	if err != nil {
		return nil, err
	}
	return whole(f, v)
}

// parseJSON reads JSON as strictly as a document is read, but for large numbers.
func parseJSON(f File, n *notes) (any, error) {
	data := bytes.TrimPrefix(f.Data, bom)
	if !utf8.Valid(data) {
		return nil, notText(f.Name)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := jsonValue(d, nil, n)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more text after the value")
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	lower := bytes.ToLower(data)
	replaced := bytes.ContainsRune(data, utf8.RuneError) || bytes.Contains(lower, []byte(`\ufffd`)) // by the writer
	if err == nil && bytes.Contains(lower, []byte(`\ud`)) && !replaced && hasReplacement(v) {
		err = errors.New("half of a character in \\u escapes")
	}
	if err != nil {
		line := 1 + bytes.Count(data[:min(int(d.InputOffset()), len(data))], []byte("\n"))
		return nil, conf.Errorf(conf.CodeMalformed, "%s is not JSON: line %d: %s", f.Name, line, conf.Clip(err.Error()))
	}
	return v, nil
}

// hasReplacement reports whether a text of v has the character that stands for a bad one.
func hasReplacement(v any) bool {
	out, err := json.Marshal(v)
	return err == nil && (bytes.ContainsRune(out, utf8.RuneError) || bytes.Contains(out, []byte(`\ufffd`)))
}

func jsonValue(d *json.Decoder, at conf.Path, n *notes) (any, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	if len(at) > maxDepth {
		return nil, errors.New("nested too deep")
	}
	switch t := tok.(type) {
	case json.Number:
		return number(t.String(), at, n), nil
	case json.Delim:
		if t == '[' {
			out := []any{}
			for d.More() {
				v, err := jsonValue(d, append(at[:len(at):len(at)], strconv.Itoa(len(out))), n)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			_, err := d.Token()
			return out, err
		}
		out := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			key, _ := name.(string)
			if _, twice := out[key]; twice {
				return nil, errors.New("the name " + strconv.Quote(key) + " comes twice")
			}
			if out[key], err = jsonValue(d, append(at[:len(at):len(at)], key), n); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return out, err
	default:
		return tok, nil
	}
}
