package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestMessages checks the message for each kind of error.
func TestMessages(t *testing.T) {
	const fields = `
		"vad": {"type":"number","minimum":0,"maximum":1},
		"least": {"type":"integer","minimum":1},
		"rate": {"type":"integer","exclusiveMinimum":0,"maximum":192000},
		"above": {"type":"number","exclusiveMinimum":0},
		"backend": {"type":"string","enum":["whisper","ws"]},
		"fixed": {"const":"x"},
		"flag": {"type":"boolean"},
		"name": {"type":"string","pattern":"^[a-z]+$"},
		"text": {"type":"string","minLength":2,"maxLength":3},
		"step": {"type":"integer","multipleOf":5},
		"maybe": {"anyOf":[{"type":"integer","minimum":0,"maximum":9},{"type":"null"}]},
		"either": {"anyOf":[{"type":"integer"},{"type":"string"}]},
		"choice": {"anyOf":[{"const":"a"},{"enum":["b","c"]}]},
		"level": {"enum":[1,2,null]},
		"when": {"type":"string","format":"date-time"},
		"list": {"type":"array","items":{"type":"integer","maximum":3},"minItems":1,"maxItems":3,"uniqueItems":true},
		"map": {"type":"object","additionalProperties":{"type":"integer"},"propertyNames":{"pattern":"^[a-z]+$"},"maxProperties":2},
		"sub": {"type":"object","additionalProperties":false,"required":["need"],"properties":{"need":{"type":"string"},"deep":{"type":"object","properties":{"n":{"type":"integer","maximum":3}}}}},
		"models": {"type":"array","items":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}},
		"pet": {"oneOf":[
			{"type":"object","required":["kind"],"properties":{"kind":{"const":"cat"},"lives":{"type":"integer"}}},
			{"type":"object","required":["kind","name"],"properties":{"kind":{"const":"dog"},"name":{"type":"string"}}}]},
		"not_zero": {"type":"integer","not":{"const":0}},
		"both": {"type":"integer","allOf":[{"minimum":2},{"multipleOf":2}]},
		"never": false`
	s := compile(t, props(fields))
	for _, c := range []struct{ values, key, message string }{
		{`{"vad":1.7}`, "vad", "must be at most 1 (allowed 0 to 1), got 1.7"},
		{`{"vad":-0.5}`, "vad", "must be at least 0 (allowed 0 to 1), got -0.5"},
		{`{"vad":"x"}`, "vad", "must be a number, got a string (allowed 0 to 1)"},
		{`{"vad":null}`, "vad", "must be a number, got null (allowed 0 to 1)"},
		{`{"least":0}`, "least", "must be at least 1, got 0"},
		{`{"least":"0"}`, "least", "must be an integer, got a string (allowed at least 1)"},
		{`{"least":1.5}`, "least", "must be an integer, got 1.5 (allowed at least 1)"},
		{`{"rate":0}`, "rate", "must be greater than 0 (exclusive; allowed more than 0, up to 192000), got 0"},
		{`{"above":0}`, "above", "must be greater than 0 (exclusive), got 0"},
		{`{"backend":"google"}`, "backend", "must be one of whisper, ws"},
		{`{"backend":5}`, "backend", "must be a string, got a number (allowed whisper, ws)"},
		{`{"fixed":"y"}`, "fixed", "must be x"},
		{`{"flag":"yes"}`, "flag", "must be a boolean, got a string"},
		{`{"name":"A1"}`, "name", "must match ^[a-z]+$"},
		{`{"text":"a"}`, "text", "must be at least 2 characters long, got 1"},
		{`{"text":"éèàé"}`, "text", "must be at most 3 characters long, got 4"},
		{`{"step":7}`, "step", "must be a multiple of 5, got 7"},
		{`{"maybe":10}`, "maybe", "must be at most 9 (allowed 0 to 9), got 10"},
		{`{"maybe":"x"}`, "maybe", "must be an integer or null, got a string (allowed 0 to 9)"},
		{`{"either":[]}`, "either", "must be an integer or a string, got an array"},
		{`{"choice":"z"}`, "choice", "must be one of a, b, c"},
		{`{"level":3}`, "level", "must be one of 1, 2, null, got 3"},
		{`{"when":"yesterday"}`, "when", "must be a valid date-time"},
		{`{"list":[1,"x",9]}`, "list", "[1] must be an integer, got a string; [2] must be at most 3, got 9"},
		{`{"list":[]}`, "list", "must have at least 1 element, got 0"},
		{`{"list":[1,1]}`, "list", "elements 0 and 1 are equal, where each must differ"},
		{`{"list":[1,2,3,0]}`, "list", "must have at most 3 elements, got 4"},
		{`{"map":{"a":"x"}}`, "map", "a must be an integer, got a string"},
		{`{"map":{"A":1}}`, "map", `name "A" must match ^[a-z]+$`},
		{`{"map":{"a":1,"b":1,"c":1}}`, "map", "must have at most 2 members, got 3"},
		{`{"sub":{}}`, "sub.need", "is required"},
		{`{"sub":[]}`, "sub", "must be an object, got an array"},
		{`{"sub":{"need":"x","deep":{"n":4}}}`, "sub.deep.n", "must be at most 3, got 4"},
		{`{"sub":{"need":"x","deap":{}}}`, "sub.deap", "unknown key; known keys: deep, need (did you mean deep?)"},
		{`{"models":[{"id":1},{}]}`, "models", "[1].id is required"},
		{`{"pet":{"kind":"dog"}}`, "pet", "name is required"},
		{`{"pet":{"kind":"cow","name":"x"}}`, "pet", "kind must be one of cat, dog"},
		{`{"pet":{"kind":"cat","lives":"x"}}`, "pet", "lives must be an integer, got a string"},
		{`{"pet":7}`, "pet", "must be an object, got a number"},
		{`{"not_zero":0}`, "not_zero", "has a value that the schema rules out"},
		{`{"both":1}`, "both", "must be a multiple of 2, got 1; must be at least 2, got 1"},
		{`{"never":1}`, "never", "is not allowed"},
		{`{"sub.need":"x"}`, "sub.need", `must be written as nested objects: {"sub": {"need": ...}}`},
		{`{"vad":1e-999999999}`, "vad", numberRule},
		{`{"list":[0.` + strings.Repeat("1", 100) + `]}`, "list", "[0] " + numberRule},
	} {
		_, errs := s.Effective(document(t, c.values))
		want := []conf.FieldError{{Key: c.key, Message: c.message}}
		if diff := cmp.Diff(want, errs); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.values, diff)
		}
	}
}

func TestUnknownKey(t *testing.T) {
	s := compile(t, props(`"vad_threshold":{"type":"number"},"whisper_model":{"type":"string"}`))
	_, errs := s.Effective(document(t, `{"vad_treshold":0.5,"zzz":1}`))
	want := []conf.FieldError{
		{Key: "vad_treshold", Message: "unknown key; known keys: vad_threshold, whisper_model (did you mean vad_threshold?)"},
		{Key: "zzz", Message: "unknown key; known keys: vad_threshold, whisper_model"},
	}
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Error(diff)
	}
}

// TestErrorsAllAtOnce wants one error a key, sorted, and the same each time.
func TestErrorsAllAtOnce(t *testing.T) {
	s := compile(t, props(`"a":{"type":"integer"},"b":{"type":"string","minLength":5,"pattern":"^x"},"c":{"type":"array","items":{"type":"integer"}},"d":{"type":"string"}`)[:1]+
		`"required":["d"],`+props(`"a":{"type":"integer"},"b":{"type":"string","minLength":5,"pattern":"^x"},"c":{"type":"array","items":{"type":"integer"}},"d":{"type":"string"}`)[1:])
	want := []conf.FieldError{
		{Key: "a", Message: "must be an integer, got a string"},
		{Key: "b", Message: "must be at least 5 characters long, got 1; must match ^x"},
		{Key: "c", Message: "[0] must be an integer, got a string; [1] must be an integer, got a string; [2] must be an integer, got a string"},
		{Key: "d", Message: "is required"},
		{Key: "e", Message: "unknown key; known keys: a, b, c, d"},
	}
	for range 50 {
		_, errs := s.Effective(document(t, `{"a":"1","b":"y","c":["1","2","3","4","5"],"e":5}`))
		if diff := cmp.Diff(want, errs); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestErrorsAreBounded(t *testing.T) {
	s := compile(t, props(`"a":{"type":"integer"}`))
	values := map[string]any{}
	for i := range 5000 {
		values[fmt.Sprintf("%s%d", strings.Repeat("k", 1000), i)] = true
	}
	_, errs := s.Effective(values)
	if len(errs) == 0 || len(errs) > maxErrors {
		t.Fatalf("%d errors, want 1 to %d", len(errs), maxErrors)
	}
	for _, e := range errs {
		if len(e.Key)+len(e.Message) > 2000 {
			t.Fatalf("an error of %d bytes", len(e.Key)+len(e.Message))
		}
	}
}

func TestDefaults(t *testing.T) {
	s := compile(t, props(`
		"plain": {"type":"integer","default":5},
		"none": {"type":"string"},
		"null": {"anyOf":[{"type":"string"},{"type":"null"}],"default":null},
		"absent": {"type":"object","properties":{"x":{"type":"integer","default":1}}},
		"empty": {"type":"object","default":{},"properties":{"x":{"type":"integer","default":1},"deep":{"type":"object","default":{},"properties":{"y":{"type":"integer","default":2}}}}},
		"preset": {"type":"object","default":{"x":7},"properties":{"x":{"type":"integer","default":1},"z":{"type":"integer","default":3}}},
		"list": {"type":"array","items":{"type":"object","properties":{"q":{"default":1}}},"default":[{}]}`))
	for _, c := range []struct{ values, want string }{
		{`{}`, `{"absent":{"x":1},"empty":{"deep":{"y":2},"x":1},"list":[{}],"null":null,"plain":5,"preset":{"x":7,"z":3}}`},
		{`{"absent":{},"plain":6,"preset":{"z":4},"empty":{"x":9}}`, `{"absent":{"x":1},"empty":{"deep":{"y":2},"x":9},"list":[{}],"null":null,"plain":6,"preset":{"x":7,"z":4}}`},
	} {
		doc, errs := s.Effective(document(t, c.values))
		if got := jsonText(doc); got != c.want || errs != nil {
			t.Errorf("%s\n got %s (%v)\nwant %s", c.values, got, errs, c.want)
		}
	}
	if f, _ := s.Field("preset.x"); string(f.Default) != "7" {
		t.Errorf("default of preset.x is %s, want 7", f.Default)
	}
}

// TestIntegers takes 5.0 for an integer, as JSON Schema does.
func TestIntegers(t *testing.T) {
	s := compile(t, props(`"n":{"type":"integer"}`))
	for text, valid := range map[string]bool{"5": true, "5.0": true, "5e1": true, "5.5": false, "true": false} {
		if _, errs := s.Effective(document(t, `{"n":`+text+`}`)); (errs == nil) != valid {
			t.Errorf("%s: %v", text, errs)
		}
	}
}

// TestNothingShared changes a result, and wants neither the values nor the schema
// to follow.
func TestNothingShared(t *testing.T) {
	s := compile(t, props(`"list":{"type":"array","default":[1]},"obj":{"type":"object","default":{},"properties":{"m":{"type":"object","default":{"a":1}}}},"free":{"type":"object"}`))
	values := document(t, `{"free":{"x":{"y":[1,2]}}}`)
	before := jsonText(values)
	doc, _ := s.Effective(values)
	first := jsonText(doc)
	doc["list"].([]any)[0] = "changed"
	doc["obj"].(map[string]any)["m"].(map[string]any)["a"] = "changed"
	doc["free"].(map[string]any)["x"].(map[string]any)["y"].([]any)[0] = "changed"
	if got := jsonText(values); got != before {
		t.Errorf("values became %s", got)
	}
	again, _ := s.Effective(values)
	if got := jsonText(again); got != first {
		t.Errorf("second result %s, want %s", got, first)
	}
}

const secretSchema = `{"type":"object","additionalProperties":false,"required":["key","name"],
	"dependentRequired":{"name":["key"]},
	"properties":{
		"name":{"type":"string"},
		"key":{"type":"string","x-secret":true},
		"token":{"anyOf":[{"type":"string","format":"password","writeOnly":true},{"type":"null"}],"default":null},
		"api":{"type":"string","x-secret":true,"x-secret-source":"env","x-env":"API"},
		"db":{"$ref":"#/$defs/Db"},
		"accounts":{"type":"array","items":{"$ref":"#/$defs/Db"}}},
	"$defs":{"Db":{"type":"object","required":["host","password"],"additionalProperties":false,
		"anyOf":[{"required":["host"]},{"required":["password"]}],
		"properties":{"host":{"type":"string"},"password":{"type":"string","writeOnly":true,"minLength":20}}}}}`

// TestSecrets never finds a secret in a document or in a message.
func TestSecrets(t *testing.T) {
	s := compile(t, secretSchema)
	const secret = "hunter2"
	values := document(t, `{"name":"n","key":"hunter2","token":"hunter2","api":"hunter2","db":{"host":"h","password":"hunter2"},"accounts":[{"password":"hunter2"}]}`)
	before := jsonText(values)
	rest, secrets := s.SplitSecrets(values)
	var got []string
	for _, sec := range secrets {
		got = append(got, sec.Field.Key+" "+string(*sec.Field.SecretSource)+" "+jsonText(sec.Value))
	}
	if want := []string{`accounts database [{"password":"hunter2"}]`, `api env "hunter2"`, `db.password database "hunter2"`, `key database "hunter2"`, `token database "hunter2"`}; !slices.Equal(got, want) {
		t.Errorf("secrets %q, want %q", got, want)
	}
	if got, want := jsonText(rest), `{"db":{"host":"h"},"name":"n"}`; got != want || jsonText(values) != before {
		t.Errorf("the rest is %s, want %s; the values are %s now", got, want, jsonText(values))
	}
	if rest, _ := s.SplitSecrets(document(t, `{"name":"n","db":{"password":"p"}}`)); jsonText(rest) != `{"name":"n"}` {
		t.Errorf("an object of nothing but secrets stays: %s", jsonText(rest))
	}
	doc, errs := s.Effective(values)
	if got, want := jsonText(doc), `{"db":{"host":"h"},"name":"n"}`; got != want || errs != nil {
		t.Errorf("Effective = %s %v, want %s", got, errs, want)
	}
	for _, item := range s.Items("demo", values) {
		if strings.Contains(item.ValueJSON, secret) {
			t.Errorf("item %s shows a secret", item.Key)
		}
	}
	// In the wrong place or shape, and still not in a message.
	for _, text := range []string{
		`{"name":"n","kee":"hunter2"}`, `{"name":["hunter2"],"db":"hunter2"}`, `{"name":"n","db":{"host":"h","passwort":"hunter2"}}`,
		`{"name":{"hunter2":"hunter2"},"key":{"x":"hunter2"}}`,
	} {
		doc, errs := s.Effective(document(t, text))
		if errs == nil {
			t.Errorf("%s is valid: %s", text, jsonText(doc))
		}
		for _, e := range errs {
			if strings.Contains(e.Message, secret) {
				t.Errorf("%s: %s: %s", text, e.Key, e.Message)
			}
		}
	}
	for _, key := range []string{"key", "db.password"} {
		if f, _ := s.Field(key); !f.IsSecret || f.Default != nil {
			t.Errorf("field %s = %+v", key, f)
		}
	}
	if f, _ := s.Field("key"); !f.Required {
		t.Error("key is asked for by the schema, and its field does not say so")
	}
	if rest, secrets := s.SplitSecrets(document(t, `{"name":"x","db":{"host":"h"}}`)); secrets != nil || len(rest) != 2 {
		t.Errorf("plain values: %v, %v", rest, secrets)
	}
}

// TestCheckSecret says what is asked for, and nothing of what was sent.
func TestCheckSecret(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{
		"plain":{"type":"string"},
		"pattern":{"type":"string","x-secret":true,"pattern":"^sk-[0-9]+$"},
		"long":{"type":"string","x-secret":true,"minLength":10,"maxLength":12},
		"pin":{"type":"integer","x-secret":true,"minimum":1000,"maximum":9999},
		"choice":{"type":"string","x-secret":true,"enum":["a","b"]},
		"object":{"type":"object","additionalProperties":false,"x-secret":true,"properties":{"user":{"type":"string"},"password":{"type":"string","minLength":4}},"required":["password"]},
		"maybe":{"anyOf":[{"type":"string","minLength":3},{"type":"null"}],"x-secret":true}}}`)
	for _, c := range []struct{ key, value, want string }{
		{"pattern", `"sk-4711"`, ""},
		{"pattern", `"4711471147114711"`, "must match ^sk-[0-9]+$"},
		{"pattern", `47114711`, "must be a string"},
		{"long", `"0123456789"`, ""},
		{"long", `"4711"`, "must be at least 10 characters long"},
		{"pin", `4711`, ""},
		{"pin", `47114711`, "must be at most 9999"},
		{"pin", `"4711"`, "must be an integer"},
		{"choice", `"4711"`, "is not one of the allowed values"},
		{"object", `{"user":"u","password":"4711"}`, ""},
		{"object", `{"user":"u","password":4711}`, "does not fit its schema"},
		{"object", `{"4711":"u","password":"47114711"}`, "does not fit its schema"},
		{"object", `{}`, "does not fit its schema"},
		{"maybe", `null`, ""},
		{"maybe", `"4711"`, ""},
		{"maybe", `"47"`, "must be at least 3 characters long"},
		{"plain", `"4711"`, "is not a secret of this service"},
		{"none", `"4711"`, "is not a secret of this service"},
	} {
		v, err := conf.ParseJSON([]byte(c.value), 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range s.CheckSecret(c.key, v) {
			got += e.Message
		}
		if got != c.want || strings.Contains(got, "47") {
			t.Errorf("%s %s: %q, want %q", c.key, c.value, got, c.want)
		}
	}
	if _, err := s.SecretField("plain"); conf.CodeOf(err) != conf.CodeInvalid || conf.HintOf(err) == "" {
		t.Error(err)
	}
	if _, err := s.SecretField("none"); conf.CodeOf(err) != conf.CodeNotFound || conf.HintOf(err) == "" {
		t.Error(err)
	}
	if f, err := s.SecretField("pin"); err != nil || !f.IsSecret {
		t.Error(f, err)
	}
}

// TestOpenObjects lets through what the schema does not name, if a key can name it.
func TestOpenObjects(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"integer"}}}}}`)
	doc, errs := s.Effective(document(t, `{"extra":{"x":1},"a":{"c":2}}`))
	if got, want := jsonText(doc), `{"a":{"c":2},"extra":{"x":1}}`; got != want || errs != nil {
		t.Errorf("Effective = %s %v, want %s", got, errs, want)
	}
	_, errs = s.Effective(document(t, `{"Bad Key":1,"a.b":2}`))
	want := []conf.FieldError{
		{Key: "Bad Key", Message: "bad name: use lower-case letters, digits and underscores, a letter first"},
		{Key: "a.b", Message: `must be written as nested objects: {"a": {"b": ...}}`},
	}
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Error(diff)
	}
}

func TestDottedNames(t *testing.T) {
	s := compile(t, props(`"stt.whisper_model":{"type":"string","default":"base.en"}`))
	doc, errs := s.Effective(document(t, `{"stt.whisper_model":"small.en"}`))
	if errs != nil || doc["stt.whisper_model"] != "small.en" {
		t.Errorf("Effective = %v %v", doc, errs)
	}
	if items := s.Items("demo", doc); len(items) != 1 || items[0].Key != "stt.whisper_model" {
		t.Errorf("items %v", items)
	}
}

// TestForeignValues takes what is no JSON value without a panic.
func TestForeignValues(t *testing.T) {
	s := compile(t, props(`"n":{"type":"integer","minimum":0}`))
	for _, v := range []any{make(chan int), struct{}{}, []string{"x"}, map[int]int{1: 1}} {
		if _, errs := s.Effective(map[string]any{"n": v}); errs == nil {
			t.Errorf("%T is valid", v)
		}
	}
	for _, v := range []any{5, int64(5), 5.0, json.Number("5")} {
		if _, errs := s.Effective(map[string]any{"n": v}); errs != nil {
			t.Errorf("%T: %v", v, errs)
		}
	}
}

// TestOneValueForEachKey rejects a document with a second value for the key of a
// field: a change of the one would leave the other, and a service reads only one.
func TestOneValueForEachKey(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{
		"log.level":{"type":"string","default":"info"},
		"log":{"type":"object"},
		"db":{"type":"object","properties":{"pool":{"type":"object","properties":{"size":{"type":"integer","default":3}}},"log.level":{"type":"string"}}}}}`)
	for text, want := range map[string]string{
		`{"log.level":"debug"}`:                   "",
		`{"log":{"file":"x"}}`:                    "",
		`{"db":{"log.level":"x"}}`:                "",
		`{"log":{"level":"debug"}}`:               "log.level",
		`{"db":{"log":{"level":"x"}}}`:            "db.log.level",
		`{"db":{"pool.size":4}}`:                  "db.pool.size",
		`{"db.pool":{"size":4}}`:                  "db.pool.size",
		`{"db.log.level":"x"}`:                    "db.log.level",
		`{"db.log":{"level":"x"}}`:                "db.log.level",
		`{"other":{"log.level":"x","pool":"y"}}`:  "",
		`{"other":{"level":1},"other.level":"x"}`: "",
	} {
		_, errs := s.Effective(document(t, text))
		if (want == "") != (errs == nil) || errs != nil && (len(errs) != 1 || errs[0].Key != want) {
			t.Errorf("%s: %v, want %q", text, errs, want)
		}
	}
}
