package foreign

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
)

func infer(t *testing.T, format, data string) *Result {
	t.Helper()
	d, err := Read(format, []File{{Name: "f", Data: []byte(data)}}, nil)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	r, err := d.Infer(Choice{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Where readers of YAML differ, or JSON cannot keep a value, it stays what is written.
func TestScalarsOfYAML(t *testing.T) {
	for in, want := range map[string]string{
		"no": `"no"`, "on": `"on"`, "y": `"y"`, "Off": `"Off"`, "0123": `"0123"`, "0o17": `"0o17"`, "0x1f": `"0x1f"`, "1e3": `"1e3"`, "1.5e3": `"1.5e3"`,
		"1.5e+3": `1.5e+3`, "1_000": `"1_000"`, "12:30:45": `"12:30:45"`, ".inf": `".inf"`, ".nan": `".nan"`, "+5": `"+5"`, "1.": `"1."`,
		"2026-01-02": `"2026-01-02"`, "2026-01-02T03:04:05Z": `"2026-01-02T03:04:05Z"`, "9007199254740993": `"9007199254740993"`,
		"-9007199254740991": `-9007199254740991`, "1.0": `1.0`, "-0": `-0`, "true": `true`, "TRUE": `true`, "~": `null`, "": `null`, "null": `null`,
		`"1"`: `"1"`, `!!str 5`: `"5"`, "5": `5`, "a: b": `{"a":"b"}`, "|-\n  text": `"text"`, "1.2.3": `"1.2.3"`,
	} {
		text := "v: " + in + "\n"
		if strings.HasPrefix(in, "a:") {
			text = "v: {" + in + "}\n"
		}
		got := asJSON(t, infer(t, "yaml", text).Values["v"])
		if got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"a: !vault x": "the tag !vault", "a: *none": "unknown anchor", "a: 1\na: 2": "comes twice", "- a": "not an object", "a: 1\n---\nb: 2": "more than one",
		"? [a]\n: b": "not text", "": "is empty", "a: &a [*a]": "", "a: !!binary aGk=": "the tag",
		"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]": "too large",
	} {
		if _, err := Read("yaml", []File{{Name: "f", Data: []byte(in)}}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

// What JSON, properties and .env files have that is broken is refused with its line.
func TestBrokenFiles(t *testing.T) {
	for _, c := range [][3]string{
		{"json", "{\"a\": \"\\ud800 hunter2\"}", "half of a character"},
		{"json", "{\n\"a\": 1,\n\"a\": 2}", "line 3"},
		{"json", "{\"a\": 1} x", "more text"},
		{"json", "{\"a\": ", "ends too early"},
		{"json", "[1]", "not an object"},
		{"json", "{}", "no value"},
		{"env", "A=1\nB b\nC='hunter2'\n", "line 2"},
		{"env", "A=1\nB=\"hunter2\n", "line 2"},
		{"env", "A\xff=1", "not"},
		{"properties", "a=1\nb=\\u12 hunter2\n", "line 2"},
		{"properties", "servers[0]=x", "bad name \"servers[0]\""},
		{"properties", "a b/c=x\na/b=1", "bad name"},
		{"configmap", "kind: Pod", "no ConfigMap"},
		{"configmap", "kind: ConfigMap\ndata: {a: 1}", "not text"},
		{"configmap", "kind: ConfigMap\nbinaryData: {a: aGk=}", "binaryData"},
		{"configmap", "kind: Secret\ndata: {a: 'hunter2%'}", "no text in base64"},
		{"configmap", "kind: Secret\nmetadata: {name: s}\ndata: {a: /w==}", "Secret s"},
		{"configmap", "kind: ConfigMap\nmetadata: {name: m}\ndata: {a.json: '{hunter2'}", "ConfigMap m, a.json"},
	} {
		_, err := Read(c[0], []File{{Name: "f", Data: []byte(c[1])}}, nil)
		if err == nil || !strings.Contains(err.Error(), c[2]) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %q: %v, want %q", c[0], c[1], err, c[2])
		}
	}
	if r := infer(t, "json", `{"a": "\ud83d\ude00 \ufffd"}`); r.Values["a"] != "\U0001f600 \ufffd" {
		t.Errorf("%q", r.Values["a"])
	}
}

// A text is a number only if the environment has it spelled the same.
func TestTextKeepsItsSpelling(t *testing.T) {
	for _, s := range []string{"1", "0", "-5", "0.5", "1.5", "-12.25", "true", "false", "9007199254740991", "0.000001", "123456.789"} {
		if v := typed(s); v == any(s) {
			t.Errorf("%q stays text", s)
		} else if fmt.Sprint(v) != s {
			t.Errorf("%q is %v", s, v)
		}
	}
	for _, s := range []string{"", "1.0", "1.10", "007", "+1", "1e3", "-0", "True", "yes", "null", "0x1", "9007199254740993", "0.0000001", "1.", ".5", "NaN", " 1", "1 ", "0.1234567890123456789"} {
		if v := typed(s); v != any(s) {
			t.Errorf("%q is %v", s, v)
		}
	}
}

func TestGuessedSecrets(t *testing.T) {
	secret := map[string]any{
		"password": "x", "db_password": "x", "dbPassword": "x", "DB_PASSWD": "x", "clientSecret": "x", "api_key": "x", "apiKey": "x", "apikey": "x", "API_KEY2": "x",
		"aws.secretAccessKey": "x", "token": "x", "SENTRY_DSN": "x", "credentials": "x", "private_key": "x", "passphrase": "x", "password1": json.Number("4711"),
		"url": "postgres://u:p@h/db", "broker": "mqtts://u:p@h:8883", "hosts": []any{"http://a", "http://u:p@h"}, "odd": "amqp://u:p%zz@h",
		"dsn_text": "host=h user=u password=p", "tls": "-----BEGIN RSA PRIVATE KEY-----", "header": "Bearer abcdefghijk", "gh": "ghp_abcdefghijklmnop",
		"users": []any{map[string]any{"name": "u", "password": "p"}}, "x": sealed("v"), "access_token": json.Number("1234567890"),
	}
	for name, v := range secret {
		if !guessed(name, v) {
			t.Errorf("%s is not taken for a secret", name)
		}
	}
	for name, v := range map[string]any{
		"port": json.Number("1"), "use_token": true, "max_tokens": json.Number("512"), "maxTokens": "512000", "primary_key": "id", "public_key": "x", "keyboard": "x",
		"monkey": "x", "token_file": "/run/t", "DB_PASSWORD_FILE": "/run/p", "url": "https://h/p?q=a@b", "mail": "a@b.c", "broker": "mqtt://u@h:1883",
		"author": "x", "passenger": "x", "token_url": "https://h/token", "empty": nil, "hosts": []any{"http://a"}, "compass": "north",
	} {
		if guessed(name, v) {
			t.Errorf("%s is taken for a secret", name)
		}
	}
}

// What is inferred is a schema that accepts what it was inferred from, and no value of a
// secret is in the result when it is printed.
func TestInferredSchemas(t *testing.T) {
	r := infer(t, "json", `{"a": 1, "b": 1.5, "c": [1, 2.5, null], "d": [], "e": [1, "x"], "f": [[1], [2]], "g": {}, "h": {"password": "hunter2"},
		"credentials": {"user": "hunter3", "expires": true}, "i": [{"x": 1, "Y": {"z": 1}}, {"x": 2}], "log-level": "x", "cert_path": "/a/b", "j": null, "api_token": null, "k": ""}`)
	text := asJSON(t, r.Schema)
	s, err := schema.Compile("svc", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, wrong := s.Effective(clone(t, r.Values)); len(wrong) > 0 {
		t.Errorf("the schema does not accept its own values: %v", wrong)
	}
	var secrets []string
	for _, x := range r.Secrets {
		secrets = append(secrets, fmt.Sprintf("%s %v", x.Path.Key(), x.HasValue()))
	}
	if diff := cmp.Diff([]string{"api_token false", "credentials.user true", "h.password true"}, secrets); diff != "" {
		t.Error(diff)
	}
	if shown := fmt.Sprintf("%v %+v %#v", r, *r, r); strings.Contains(shown, "hunter2") {
		t.Error("a secret is in what is printed")
	}
	if !strings.Contains(asJSON(t, r.Document()), "hunter2") {
		t.Error("the document lacks the secret")
	}
	for _, part := range []string{
		`"c":{"items":{"type":["number","null"]},"type":"array"}`, `"d":{"type":"array"}`, `"e":{"type":"array"}`, `"f":{"items":{"items":{"type":"integer"},"type":"array"},"type":"array"}`,
		`"cert_path":{"format":"path","type":"string"}`, `"j":{}`, `"password":{"type":"string","x-secret":true}`, `"x-keys":"any"`, `"required":["x"]`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
}

func clone(t *testing.T, m map[string]any) map[string]any {
	t.Helper()
	out, err := conf.ParseObject([]byte(asJSON(t, m)), conf.MaxDocument)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzRead: whatever a file has, it is read or refused; what is read is JSON that the agent
// accepts under the schema that is inferred, and no error quotes a value.
func FuzzRead(f *testing.F) {
	for i, s := range []string{
		"A=hunter2\nB='x\ny'\nA=$B", "a.b=1\na=2\\\n 3\n!c", "a: &x {b: no}\nc: *x\n", `{"a":[{"b":1e400}]}`, "kind: ConfigMap\ndata: {a.yaml: 'b: 1', C: x}\n",
	} {
		f.Add(i, s)
	}
	f.Fuzz(func(t *testing.T, n int, data string) {
		format := Formats()[uint(n)%uint(len(Formats()))]
		d, err := Read(format, []File{{Name: "f", Data: []byte(data)}}, nil)
		if err != nil {
			return
		}
		r, err := d.Infer(Choice{})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := json.Marshal(r.Values)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := conf.ParseObject(doc, 1<<30)
		if err != nil {
			return // too deep
		}
		s, err := schema.Compile("svc", []byte(asJSON(t, r.Schema)))
		if err != nil {
			return // two names with one variable, and other rules of the agent
		}
		if _, wrong := s.Effective(parsed); len(wrong) > 0 {
			t.Errorf("the schema %s does not accept its own values: %v", asJSON(t, r.Schema), wrong)
		}
	})
}
