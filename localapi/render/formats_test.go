package render

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/magiconair/properties"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

var update = flag.Bool("update", false, "write the golden files")

// awkward are texts that one format or another could get wrong.
var awkward = []string{
	"", " ", " a", "a ", "a b", "\t", "a\tb", "\n", "a\nb", "a\n", "\r\n", "a\rb", "\x00", "\x1b[0m", "\x7f", "\u0085", "\u2028", "\ufeff", "é", "日本語", "😀",
	`"`, `'`, `"""`, `'''`, `\`, `\\`, `a\`, `\n`, `\u0041`, `a"b'c`, "`", "$", "${HOME}", "$(id)", "%", "%(a)s", "%%", "#", "#a", "a #b", ";", "; a", "a ; b", "!", "!a", "=", "a=b", ":", "a: b",
	"- a", "[a]", "{a}", "{{a}}", "<a>", "&a", "*a", "!!str", "|", ">", "?", "~", "null", "Null", "NULL", "true", "yes", "no", "on", "off", "y", "1", "01", "0x1", "0o7", "1e3", "1_000", ".5", "+1",
	"1.0", "nan", ".inf", "12:30", "2026-01-01", "2026-01-01T00:00:00Z", "<<", "---", "...", "%YAML", "@a", "export A=1", "[section]", "rem a", "a,b", "a\\\nb", strings.Repeat("long ", 60),
}

// sample has one of each kind of value, and all awkward texts.
func sample() map[string]any {
	texts := map[string]any{}
	for i, s := range awkward {
		texts[fmt.Sprintf("t%03d", i)] = s
	}
	return map[string]any{
		"name": "stt", "on": true, "off": false, "nothing": nil, "port": json.Number("8080"), "neg": json.Number("-3"), "ratio": json.Number("0.25"), "tiny": json.Number("1e-7"),
		"huge": json.Number("1e+21"), "safe": json.Number("9007199254740991"), "hosts": []any{"a", "b c"}, "mixed": []any{json.Number("1"), "two", true, []any{}, map[string]any{"x": json.Number("1")}},
		"objects": []any{map[string]any{"a": "1"}, map[string]any{"a": "2", "b": []any{"x"}}}, "empty": map[string]any{}, "none": []any{},
		"db": map[string]any{"host": "h", "pool": map[string]any{"max": json.Number("7")}}, "a.b": "dotted", "with space": "s", "quote\"d": "q", "é": "umlaut", "Upper": "U", "texts": texts,
	}
}

// write renders values in a format, with what a target of it says.
func write(t *testing.T, format, more string, doc map[string]any) ([]byte, error) {
	t.Helper()
	config, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	f, err := load(t, t.TempDir(), map[string]string{"render.yaml": "groups: [{name: g, service: svc, targets: [{path: out, format: " + format + more + "}]}]"})
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := f.Groups[0].render([]Document{document("svc", "e", 1, string(config))})
	if err != nil {
		return nil, err
	}
	return outputs[0].data, nil
}

// reading of a file by a program of another language.
type readBack struct {
	Read    any
	Missing string
	Error   string
}

// readers reads files in Python; each is FORMAT=PATH.
func readers(t *testing.T, files ...string) (out []readBack) {
	t.Helper()
	cmd := exec.Command("python3", append([]string{"testdata/read.py"}, files...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		base.Missing(t, "python3: %v", err)
	}
	if err := json.Unmarshal(text, &out); err != nil || len(out) != len(files) {
		t.Fatal(err, len(out))
	}
	return out
}

// plain is a value as encoding/json reads it.
func plain(t *testing.T, v any) (out any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func without(m map[string]any, keys ...string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	for _, k := range keys {
		delete(out, k)
	}
	return out
}

// TestFormats compares each format with its golden file, and with what a program of another
// language reads from it.
func TestFormats(t *testing.T) {
	t.Parallel()
	doc := sample()
	noTOML := without(doc, "nothing")
	var files []string
	var want []any
	for format, values := range map[string]map[string]any{"json": doc, "yaml": doc, "toml": noTOML, "env": doc, "properties": doc} {
		data, err := write(t, format, "", doc)
		if err != nil {
			t.Fatal(format, err)
		}
		golden := filepath.Join("testdata", "sample."+format)
		if *update {
			if err := os.WriteFile(golden, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(golden)
		if err != nil || string(have) != string(data) {
			t.Errorf("%s is not what is written; -update writes it: %v", golden, err)
		}
		switch format {
		case "properties":
			checkProperties(t, data, doc)
		case "env": // localapi has its tests
		default:
			path := filepath.Join(t.TempDir(), "out")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			files, want = append(files, format+"="+path), append(want, plain(t, values))
		}
	}
	for i, got := range readers(t, files...) {
		switch {
		case got.Missing != "":
			t.Logf("SKIPPED: %s: %s", files[i], got.Missing)
		case got.Error != "":
			t.Error(got.Error)
		default:
			if d := cmp.Diff(want[i], got.Read); d != "" {
				t.Errorf("%s is read as something else:\n%s", files[i], d)
			}
		}
	}
}

// checkProperties reads a file with a library.
func checkProperties(t *testing.T, data []byte, doc map[string]any) {
	t.Helper()
	for _, enc := range []properties.Encoding{properties.ISO_8859_1, properties.UTF8} {
		p, err := (&properties.Loader{Encoding: enc, DisableExpansion: true}).LoadBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		_ = leaves(doc, "", func(key string, v any) error {
			want, err := rawText(v)
			got, ok := p.Get(key)
			if err != nil || ok != (v != nil) || got != want && !strings.ContainsRune(want, '😀') { // the library reads half of a pair
				t.Errorf("%s is %q, want %q", key, got, want)
			}
			if v != nil {
				n++
			}
			return nil
		})
		if p.Len() != n {
			t.Errorf("%d properties, want %d", p.Len(), n)
		}
	}
	if !strings.Contains(string(data), `=\uD83D\uDE00`) {
		t.Error("no pair of surrogates")
	}
}

// TestINI: what is written is read back, and what could not be is refused.
func TestINI(t *testing.T) {
	t.Parallel()
	data, err := write(t, "ini", ", section: main", map[string]any{
		"name": "stt", "port": json.Number("8080"), "on": true, "nothing": nil, "hosts": []any{"a", "b"}, "db": map[string]any{"host": "h", "pool": map[string]any{"max": json.Number("7")}},
	})
	const want = "[main]\nhosts = [\"a\",\"b\"]\nname = stt\non = true\nport = 8080\n\n[db]\nhost = h\n\n[db.pool]\nmax = 7\n"
	if err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
	var files []string
	var texts []string
	refused := 0
	for _, text := range awkward {
		data, err := write(t, "ini", "", map[string]any{"before": "1", "v": text, "z": map[string]any{"after": "2"}})
		if err != nil {
			if conf.CodeOf(err) != conf.CodeUnsupported || conf.HintOf(err) == "" || text == strings.TrimSpace(text) && !strings.ContainsAny(text, "\n\r\x00\x1b\x7f\u0085\u2028") {
				t.Errorf("%q: %v", text, err)
			}
			refused++
			continue
		}
		path := filepath.Join(t.TempDir(), "out")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		files, texts = append(files, "ini="+path), append(texts, text)
	}
	if refused > len(awkward)/4 {
		t.Errorf("%d of %d are refused", refused, len(awkward))
	}
	for i, got := range readers(t, files...) {
		want := map[string]any{"svc": map[string]any{"before": "1", "v": texts[i]}, "z": map[string]any{"after": "2"}}
		if d := cmp.Diff(any(want), got.Read); d != "" || got.Error != "" {
			t.Errorf("%q: %s %s", texts[i], got.Error, d)
		}
	}
	for _, doc := range []map[string]any{
		{"a": "1", "A": "2"},
		{"a=b": "1"},
		{"[a]": "1"},
		{" a": "1"},
		{"#a": "1"},
		{"a\nb": "1"},
		{"x]": map[string]any{"a": "1"}},
		{"svc": map[string]any{"a": "1"}, "b": "2"},
		{"a": map[string]any{"b": map[string]any{"x": "1"}}, "a.b": map[string]any{"y": "1"}},
	} {
		if data, err := write(t, "ini", "", doc); conf.CodeOf(err) != conf.CodeUnsupported {
			t.Errorf("%v is written as %q, %v", doc, data, err)
		}
	}
}

// TestParts: a part of the values, a prefix, and what a format refuses.
func TestParts(t *testing.T) {
	t.Parallel()
	doc := sample()
	for _, c := range []struct{ format, more, want string }{
		{"json", ", key: db.pool", "{\n  \"max\": 7\n}\n"},
		{"json", ", key: ratio", "0.25\n"},
		{"yaml", ", key: hosts", "- a\n- \"b c\"\n"},
		{"toml", ", key: db", "host = 'h'\n\n[pool]\nmax = 7\n"},
		{"env", ", key: db.pool, prefix: DB_", "DB_MAX=7\n"},
		{"properties", ", key: db, prefix: db.", "db.host=h\ndb.pool.max=7\n"},
		{"ini", ", key: db.pool, section: ''", "max = 7\n"},
	} {
		if data, err := write(t, c.format, c.more, doc); err != nil || string(data) != c.want {
			t.Errorf("%s%s: %q, %v", c.format, c.more, data, err)
		}
	}
	for _, format := range []string{"toml", "env", "properties", "ini"} {
		if data, err := write(t, format, ", key: hosts", doc); conf.CodeOf(err) != conf.CodeUnsupported {
			t.Errorf("%s of a list: %q, %v", format, data, err)
		}
	}
	if data, err := write(t, "toml", "", map[string]any{"a": []any{nil}}); conf.CodeOf(err) != conf.CodeUnsupported {
		t.Errorf("null in a list: %q, %v", data, err)
	}
	if data, err := write(t, "properties", "", map[string]any{"a": map[string]any{"b": "1"}, "a.b": "2"}); conf.CodeOf(err) != conf.CodeUnsupported {
		t.Errorf("two keys of one name: %q, %v", data, err)
	}
}
