package render

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/trust"
)

// load writes the files of a directory and reads its render.yaml.
func load(t *testing.T, dir string, files map[string]string) (*File, error) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(filepath.Join(dir, "render.yaml"), trust.Self)
}

func document(service, epoch string, version uint64, config string) Document {
	return Document{Service: service, Epoch: epoch, Version: version, Replica: true, Config: json.RawMessage(config)}
}

// inTemplate renders a template of one service.
func inTemplate(t *testing.T, text, config string) (string, error) {
	t.Helper()
	f, err := load(t, t.TempDir(), map[string]string{
		"render.yaml": "groups: [{name: g, service: svc, targets: [{path: out, template: t, allow_empty: true}]}]", "t": text,
	})
	if err != nil {
		return "", err
	}
	outputs, err := f.Groups[0].render([]Document{document("svc", "e", 1, config)})
	if err != nil {
		return "", err
	}
	return string(outputs[0].data), nil
}

const values = `{"name":"a b","port":8080,"ratio":0.25,"on":true,"nothing":null,"empty":"",
 "hosts":["a","b","c"],"db":{"host":"h","port":5432,"pool":{"max":7}},"yaml":"x: [1, two]","encoded":"aGk=","list":[1,2.5]}`

// functionCases has each function of templates: the table of docs/doors.md is checked
// against the names.
var functionCases = map[string][2]string{
	"key":                   {`{{key "svc/port"}} {{key "svc/db.host"}} {{key "svc/hosts"}} [{{key "svc/nothing"}}] {{key "svc/name"}}`, `8080 h ["a","b","c"] [] a b`},
	"keyExists":             {`{{keyExists "svc/port"}} {{keyExists "svc/none"}} {{keyExists "other/port"}}`, `true false false`},
	"keyOrDefault":          {`{{keyOrDefault "svc/none" "d"}} {{keyOrDefault "svc/port" "1"}} {{keyOrDefault "svc/nothing" "n"}}`, `d 8080 n`},
	"ls":                    {`{{range ls "svc/db"}}{{.Key}}={{.Value}};{{end}}`, `host=h;port=5432;`},
	"tree":                  {`{{range tree "svc/db"}}{{.Key}}={{.Value}};{{end}}`, `host=h;pool.max=7;port=5432;`},
	"index":                 {`{{index .db "pool" "max"}} {{index .hosts 1}}`, `7 b`},
	"toJSON":                {`{{toJSON .db}} {{toJSON .nothing}} {{toJSON "<"}}`, `{"host":"h","pool":{"max":7},"port":5432} null "\u003c"`},
	"toJSONPretty":          {`{{toJSONPretty .list}}`, "[\n  1,\n  2.5\n]"},
	"toUnescapedJSON":       {`{{toUnescapedJSON "<"}}`, `"<"`},
	"toUnescapedJSONPretty": {`{{toUnescapedJSONPretty .list}}`, "[\n  1,\n  2.5\n]"},
	"toYAML":                {`{{toYAML .db}}`, "host: h\npool:\n  max: 7\nport: 5432"},
	"toTOML":                {`{{toTOML .db}}`, "host = 'h'\nport = 5432\n\n[pool]\nmax = 7"},
	"parseJSON":             {`{{(parseJSON "{\"a\":[1,2]}").a}}`, `[1 2]`},
	"parseYAML":             {`{{index (parseYAML .yaml).x 1}}`, `two`},
	"parseBool":             {`{{if parseBool "true"}}yes{{end}}`, `yes`},
	"parseInt":              {`{{parseInt "7" | add 1}}`, `8`},
	"parseUint":             {`{{parseUint "7"}}`, `7`},
	"parseFloat":            {`{{parseFloat "7.5"}}`, `7.5`},
	"base64Encode":          {`{{base64Encode "hi"}}`, `aGk=`},
	"base64Decode":          {`{{base64Decode .encoded}}`, `hi`},
	"base64URLEncode":       {`{{base64URLEncode "\xff\xfe"}}`, `__4=`},
	"base64URLDecode":       {`{{base64URLDecode "aGk="}}`, `hi`},
	"sha256Hex":             {`{{sha256Hex ""}}`, `e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855`},
	"join":                  {`{{.hosts | join ","}} {{join "-" .list}}`, `a,b,c 1-2.5`},
	"split":                 {`{{range "a,b" | split ","}}<{{.}}>{{end}}{{len (split "," "")}}`, `<a><b>0`},
	"indent":                {`{{"a\n\nb" | indent 2}}`, "  a\n\n  b"},
	"replaceAll":            {`{{.name | replaceAll " " "_"}}`, `a_b`},
	"regexMatch":            {`{{.name | regexMatch "^a"}}`, `true`},
	"regexReplaceAll":       {`{{.name | regexReplaceAll "(\\w) (\\w)" "$2 $1"}}`, `b a`},
	"toLower":               {`{{toLower "ÄB"}}`, `äb`},
	"toUpper":               {`{{toUpper "äb"}}`, `ÄB`},
	"toTitle":               {`{{toTitle "it's an äpfel"}}`, `It's An Äpfel`},
	"trim":                  {`{{trim "/" "/a/"}}`, `a`},
	"trimPrefix":            {`{{trimPrefix "/" "/a/"}}`, `a/`},
	"trimSuffix":            {`{{"/a/" | trimSuffix "/"}}`, `/a`},
	"trimSpace":             {`{{trimSpace " a "}}`, `a`},
	"in":                    {`{{in .hosts "b"}} {{in .list 2.5}} {{in .hosts "z"}}`, `true true false`},
	"contains":              {`{{.hosts | contains "b"}} {{.db | contains "host"}} {{"abc" | contains "d"}}`, `true true false`},
	"add":                   {`{{.port | add 1}} {{.ratio | add 1}}`, `8081 1.25`},
	"subtract":              {`{{10 | subtract 3}}`, `7`},
	"multiply":              {`{{.port | multiply 2}}`, `16160`},
	"divide":                {`{{7 | divide 2}} {{7.0 | divide 2}}`, `3 3.5`},
	"modulo":                {`{{7 | modulo 4}}`, `3`},
	"minimum":               {`{{7 | minimum 4}}`, `4`},
	"maximum":               {`{{7 | maximum 4}}`, `7`},
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/doors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Functions() {
		c, ok := functionCases[name]
		if !ok {
			t.Errorf("%s has no case", name)
			continue
		}
		if got, err := inTemplate(t, c[0], values); err != nil || got != c[1] {
			t.Errorf("%s: %s gives %q, %v; want %q", name, c[0], got, err, c[1])
		}
		if !strings.Contains(string(doc), "`"+name) {
			t.Errorf("docs/doors.md does not have %s", name)
		}
	}
	if len(functionCases) != len(Functions()) {
		t.Error("a case has no function")
	}
}

// TestTemplateValues: null is nothing, numbers compute, and nothing prints <no value>.
func TestTemplateValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`[{{.nothing}}]{{if .nothing}}x{{else}}none{{end}}{{print .nothing}}`:                        `[]none`,
		`{{.ratio}} {{.port}} {{.on}}`:                                                               `0.25 8080 true`,
		`{{if gt .port 80}}high{{end}} {{if eq .name "a b"}}eq{{end}} {{if lt .ratio 0.5}}lt{{end}}`: `high eq lt`,
		`{{with .db}}{{.host}}:{{.port}}{{end}} {{range $i, $h := .hosts}}{{$i}}{{$h}}{{end}}`:       `h:5432 0a1b2c`,
		`{{printf "%q %d" .name .port}}`:                                                             `"a b" 8080`,
	} {
		if got, err := inTemplate(t, text, values); err != nil || got != want {
			t.Errorf("%s gives %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		`{{.none}}`, `{{.db.none}}`, `{{index .db "none"}}`, `{{index .hosts 3}}`, `{{key "svc/none"}}`, `{{key "other/x"}}`, `{{key "port"}}`,
		`{{parseInt .name}}`, `{{1 | divide 0}}`, `{{9223372036854775807 | add 1}}`, `{{add 1 "a"}}`, `{{join "," 1}}`, `{{indent -1 "a"}}`,
	} {
		if got, err := inTemplate(t, text, values); err == nil {
			t.Errorf("%s gives %q", text, got)
		} else if conf.CodeOf(err) != conf.CodeInvalid {
			t.Errorf("%s: %v, %s", text, err, conf.CodeOf(err))
		}
	}
	for _, text := range []string{`{{env "HOME"}}`, `{{file "/etc/passwd"}}`, `{{exec "id"}}`, `{{plugin "x"}}`, `{{timestamp}}`, `{{writeToFile "a" "b"}}`} {
		if _, err := inTemplate(t, text, values); err == nil || !strings.Contains(err.Error(), "not defined") {
			t.Errorf("%s: %v", text, err)
		}
	}
	// Each recursion without end, and each flood, ends.
	for _, text := range []string{`{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`, `{{define "x"}}aaaaaaaaaaaaaaaa{{.name}}{{template "x" .}}{{end}}{{template "x" .}}`} {
		if _, err := inTemplate(t, text, values); err == nil {
			t.Errorf("%s has an end", text)
		}
	}
}

// TestSecretsStayOut: no error of a template of a group with secrets has a part of one.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{{parseInt .api_key}}`, `{{parseJSON .api_key}}`, `{{parseYAML .api_key}}`, `{{base64Decode .api_key}}`, `{{index .list .api_key}}`, `{{key .api_key}}`, `{{regexMatch .api_key "a"}}`,
		`{{template "x" .api_key}}{{define "x"}}{{.field}}{{end}}`, `{{call .api_key}}`, `{{slice .api_key 1 99}}`, `{{keyOrDefault .api_key ""}}`, `{{index . .api_key}}`,
		`{{printf "%d" .api_key | parseInt}}`, `{{lt .api_key 1}}`, `{{tree .api_key}}`, `{{toTOML .api_key}}`,
	} {
		f, err := load(t, t.TempDir(), map[string]string{
			"render.yaml": "groups: [{name: g, service: svc, secrets: true, targets: [{path: out, template: t}]}]", "t": text,
		})
		if err != nil {
			t.Fatal(text, err)
		}
		_, err = f.Groups[0].render([]Document{document("svc", "e", 1, `{"api_key":"(s3cr3t: [!","list":[1]}`)})
		if err == nil {
			t.Errorf("%s renders", text)
			continue
		}
		if all := err.Error() + conf.HintOf(err); strings.Contains(all, "s3cr3t") {
			t.Errorf("%s: %s", text, all)
		}
	}
}

// TestOlder: what comes after what, with and without a replica.
func TestOlder(t *testing.T) {
	t.Parallel()
	var st state
	st = st.with([]Document{document("a", "e1", 7, "{}")}, false)
	st = st.with([]Document{{Service: "a", Epoch: "e2", Version: 3, IssuedAt: "2026-01-01T00:00:03+00:00", Replica: true}}, false)
	for name, c := range map[string]struct {
		d    Document
		want bool
	}{
		"the same":                        {Document{Service: "a", Epoch: "e2", Version: 3}, false},
		"the next":                        {Document{Service: "a", Epoch: "e2", Version: 4}, false},
		"the one before":                  {Document{Service: "a", Epoch: "e2", Version: 2}, true},
		"the one before, of a replica":    {Document{Service: "a", Epoch: "e2", Version: 2, Replica: true}, true},
		"counted anew":                    {Document{Service: "a", Epoch: "e2", Version: 1, Replica: true, IssuedAt: "2026-01-01T00:00:04+00:00"}, false},
		"counted anew, from the file":     {Document{Service: "a", Epoch: "e2", Version: 1, IssuedAt: "2026-01-01T00:00:04+00:00"}, true},
		"an epoch that was left":          {Document{Service: "a", Epoch: "e1", Version: 9}, true},
		"the defaults":                    {Document{Service: "a"}, true},
		"the next epoch":                  {Document{Service: "a", Epoch: "e3", Version: 1}, false},
		"a service without a file so far": {Document{Service: "b", Epoch: "e1", Version: 1}, false},
	} {
		if got := st.older(c.d); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestDiffHidesSecrets: neither a new secret, nor one that only the old file has.
func TestDiffHidesSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := load(t, dir, map[string]string{
		"render.yaml": "groups: [{name: g, service: svc, secrets: true, targets: [{path: out, template: t}, {path: json, format: json}]}]",
		"t":           "user {{.user}}\npassword {{.password}}\nend\n",
		"out":         "user old\npassword hunter1\nend\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	full := []Document{document("svc", "e", 1, `{"user":"u","password":"hunter2","deep":{"pin":1234}}`)}
	plain := []Document{document("svc", "e", 1, `{"user":"u"}`)}
	for name, plain := range map[string][]Document{"masked": plain, "of two versions": {document("svc", "e", 2, `{"user":"u"}`)}} {
		list, err := f.Groups[0].Diff(full, plain)
		if err != nil || len(list) != 2 {
			t.Fatal(err)
		}
		text := string(list[0].Diff) + string(list[1].Diff)
		if strings.Contains(text, "hunter") || strings.Contains(text, "1234") || strings.Contains(text, "user old") {
			t.Errorf("%s:\n%s", name, text)
		}
		if name == "masked" && (!strings.Contains(text, "+password ***\n end\n") || !strings.Contains(text, `+    "pin": "***"`) || !strings.Contains(text, "-"+hiddenOld)) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	if _, err := f.Groups[0].Apply(context.Background(), full, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "json"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
