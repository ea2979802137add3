package foreign

import (
	"bytes"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/joho/godotenv"
	"github.com/magiconair/properties"

	"github.com/holdfast-config/holdfast/replication/conf"
)

var bom = []byte("\xef\xbb\xbf")

// expansion is a variable in a value, as the reader expands it.
var expansion = regexp.MustCompile(`(\\?)\$\{?([A-Z0-9_]+)`)

// manyLines is how far the end of a quote is looked for in a file that has none.
const manyLines = 1000

// readEnv reads a .env file. godotenv knows the values, which may expand one another; the
// lines are read again one by one for where they are and for names that come twice.
func readEnv(f File, n *notes) ([]entry, error) {
	data := bytes.ReplaceAll(bytes.TrimPrefix(f.Data, bom), []byte("\r\n"), []byte("\n"))
	vars, err := godotenv.UnmarshalBytes(data)
	if err == nil && !utf8.Valid(data) {
		return nil, notText(f.Name)
	}
	var out []entry
	known := map[string]int{}
	line, begin := 0, 1
	var statement []byte
	for part := range bytes.Lines(data) {
		line++
		if len(statement) == 0 {
			begin = line
		}
		inside := len(statement) > 0
		statement = append(statement, part...)
		if inside && !bytes.ContainsAny(part, `'"`) {
			continue // of a value of many lines
		}
		if err != nil && line-begin > manyLines {
			break
		}
		one, bad := godotenv.UnmarshalBytes(statement)
		if bad != nil {
			continue // its quote is closed on a later line, or never
		}
		for _, name := range conf.SortedKeys(one) {
			if name == "" { // a word without =
				return nil, badEnv(f.Name, begin)
			}
			where := fmt.Sprintf("%s:%d", f.Name, begin)
			_, value, _ := bytes.Cut(statement, []byte("="))
			if value = bytes.TrimSpace(value); !bytes.HasPrefix(value, []byte("'")) {
				for _, m := range expansion.FindAllSubmatch(value, -1) {
					if _, ok := known[string(m[2])]; !ok && len(m[1]) == 0 {
						n.add("it uses a variable that the file does not set before, which is empty: write the $ as \\$ if it is one", name)
					}
				}
			}
			if at, had := known[name]; had {
				out[at] = entry{} // said with the next one
				n.add(fmt.Sprintf("it is set twice in %s, and the last one counts", f.Name), name)
			}
			known[name] = len(out)
			out = append(out, entry{key: name, variable: true, value: text(vars[name]), where: where})
		}
		statement = statement[:0]
	}
	if err != nil || len(statement) > 0 {
		return nil, badEnv(f.Name, begin)
	}
	return compact(out), nil
}

func badEnv(name string, line int) error {
	return conf.Errorf(conf.CodeMalformed, "%s is not a .env file: see line %d", name, line).
		WithHint("write NAME=value lines, comments with #, and close every quote")
}

// compact drops the entries that a later one of the same file replaces.
func compact(list []entry) []entry {
	var out []entry
	for _, e := range list {
		if e.key != "" {
			out = append(out, e)
		}
	}
	return out
}

func notText(name string) error {
	return conf.Errorf(conf.CodeMalformed, "%s is not UTF-8", name).WithHint("save it as UTF-8")
}

// surrogates are the two halves of one character, as Java writes it.
var surrogates = regexp.MustCompile(`\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})`)

// readProperties reads a Java properties file, one logical line after the other: the
// reader keeps no line numbers, and of a key that comes twice only the last.
func readProperties(f File, n *notes) ([]entry, error) {
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	if !utf8.Valid(f.Data) {
		loader.Encoding = properties.ISO_8859_1
		n.add("the file is not UTF-8, and is read as ISO 8859-1", f.Name)
	}
	var out []entry
	known := map[string]int{}
	line, begin := 0, 1
	var logical []byte
	read := func() error {
		p, err := loader.LoadBytes(surrogates.ReplaceAllFunc(logical, joinSurrogates))
		if err != nil {
			return conf.Errorf(conf.CodeMalformed, "%s is not a properties file: see line %d", f.Name, begin).
				WithHint("write key=value lines, comments with #")
		}
		logical = logical[:0]
		for _, key := range p.Keys() {
			value, _ := p.Get(key)
			if at, had := known[key]; had {
				out[at] = entry{}
				n.add(fmt.Sprintf("it is set twice in %s, and the last one counts", f.Name), key)
			}
			known[key] = len(out)
			out = append(out, entry{key: key, value: text(value), where: fmt.Sprintf("%s:%d", f.Name, begin)})
		}
		return nil
	}
	for part := range bytes.Lines(bytes.TrimPrefix(f.Data, bom)) {
		line++
		if len(logical) == 0 {
			begin = line
		}
		logical = append(logical, part...)
		if continues(logical) {
			continue
		}
		if err := read(); err != nil {
			return nil, err
		}
	}
	if len(logical) > 0 {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return compact(out), nil
}

// continues reports whether a line of properties ends in a backslash that is not escaped.
func continues(line []byte) bool {
	if head := bytes.TrimLeft(line, " \t\f"); len(head) > 0 && (head[0] == '#' || head[0] == '!') {
		return false
	}
	line = bytes.TrimRight(line, "\r\n")
	return (len(line)-len(bytes.TrimRight(line, `\`)))%2 == 1
}

func joinSurrogates(pair []byte) []byte {
	var high, low rune
	if _, err := fmt.Sscanf(string(pair), `\u%04x\u%04x`, &high, &low); err != nil {
		return pair
	}
	return utf8.AppendRune(nil, 0x10000+(high-0xD800)<<10+(low-0xDC00))
}
