package yamljson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// jsonNumber matches a number in JSON, which is one in YAML too.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// FromJSON writes JSON as YAML, with its members in their order.
func FromJSON(data []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	root, err := yamlNode(d)
	if err != nil {
		return nil, err
	}
	var want, buf bytes.Buffer
	if err := writeJSON(&want, root); err != nil {
		return nil, err
	}
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(root), enc.Close()); err != nil {
		return nil, err
	}
	// The printer has many ways to spell a string. Each must read back as the same.
	again, err := ToJSON(buf.Bytes())
	if err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "the YAML cannot be read again: %w", err).WithHint("export it as JSON")
	}
	if !bytes.Equal(want.Bytes(), again) {
		return nil, conf.Errorf(conf.CodeInternal, "the YAML would not read back as the same values").WithHint("export it as JSON")
	}
	return buf.Bytes(), nil
}

// yamlNode reads the next value.
func yamlNode(d *json.Decoder) (*yaml.Node, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for d.More() {
			child, err := yamlNode(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
			if n.Kind == yaml.MappingNode {
				if child, err = yamlNode(d); err != nil {
					return nil, err
				}
				n.Content = append(n.Content, child)
			}
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		_, err := d.Token() // its end
		return n, err
	case string:
		return yamlString(v), nil
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: yamlFloat(v.String())}, nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: v.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	}
}

// yamlFloat writes a number of JSON as YAML 1.1 (PyYAML) reads it too: with a dot, and
// with a sign in the exponent. It takes 1e-7 and 1.0e7 for text.
func yamlFloat(s string) string {
	i := strings.IndexAny(s, "eE")
	if i < 0 {
		return s
	}
	digits, exponent := s[:i], s[i+1:]
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	if exponent[0] != '-' && exponent[0] != '+' {
		exponent = "+" + exponent
	}
	return digits + s[i:i+1] + exponent
}

// Every version of YAML reads what matches bare as text, unless it matches special.
var (
	bare    = regexp.MustCompile(`^[A-Za-z$][A-Za-z0-9_$/.-]*$`)
	special = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|nan|inf)$`)
	lines   = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?(\n([!-~]([ -~]*[!-~])?)?)*$`) // printable, no space at the start or the end
)

func yamlString(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
	switch {
	case bare.MatchString(s) && !special.MatchString(s):
		n.Style = 0
	case strings.Contains(s, "\n") && lines.MatchString(s):
		n.Style = yaml.LiteralStyle
	}
	return n
}

// ToJSON reads YAML as JSON. It accepts only what is unambiguous: no anchors,
// no merges, no numbers other than those of JSON.
func ToJSON(data []byte) ([]byte, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "not YAML: %w", err)
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, conf.Errorf(conf.CodeMalformed, "the file holds more than one YAML document")
	}
	var buf bytes.Buffer
	if len(doc.Content) != 1 {
		return nil, conf.Errorf(conf.CodeMalformed, "the file is empty")
	}
	err := writeJSON(&buf, doc.Content[0])
	return buf.Bytes(), err
}

func badYAML(n *yaml.Node, format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeMalformed, "line %d: "+format, append([]any{n.Line}, args...)...)
}

func writeJSON(buf *bytes.Buffer, n *yaml.Node) error {
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		return badYAML(n, "anchors and aliases are not read").WithHint("write the value out in each place")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return writeMembers(buf, n, '{', '}')
	case yaml.SequenceNode:
		return writeMembers(buf, n, '[', ']')
	}
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	tagged := n.Style&yaml.TaggedStyle != 0
	switch tag := n.ShortTag(); {
	case tag == "!!str" && (quoted || tagged || !jsonNumber.MatchString(n.Value)):
		return writeText(buf, n.Value)
	case quoted:
		return badYAML(n, "%s and in quotes", tag)
	case jsonNumber.MatchString(n.Value): // the reader takes those that are too large for it for strings
		buf.WriteString(n.Value)
	case tag == "!!bool" && (n.Value == "true" || n.Value == "false"):
		buf.WriteString(n.Value)
	case tag == "!!null" && (n.Value == "null" || n.Value == "~" || n.Value == ""):
		buf.WriteString("null")
	case tag == "!!timestamp" && !tagged:
		return writeText(buf, n.Value)
	default:
		return badYAML(n, "%q is %s to some readers and something else to others", n.Value, tag).
			WithHint("put quotes around it if it is text, or write it as JSON would: 17, 0.5, true, null")
	}
	return nil
}

func writeMembers(buf *bytes.Buffer, n *yaml.Node, begin, end byte) error {
	buf.WriteByte(begin)
	for i, c := range n.Content {
		name := begin == '{' && i%2 == 0
		switch {
		case i == 0:
		case begin == '{' && !name:
			buf.WriteByte(':')
		default:
			buf.WriteByte(',')
		}
		if name && (c.Kind != yaml.ScalarNode || c.ShortTag() != "!!str") {
			return badYAML(c, "the name %q of a member is not text", c.Value).WithHint("put quotes around it")
		}
		if err := writeJSON(buf, c); err != nil {
			return err
		}
	}
	buf.WriteByte(end)
	return nil
}

func writeText(buf *bytes.Buffer, s string) error {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return err
	}
	buf.Truncate(buf.Len() - 1) // its line end
	return nil
}
