package dialect_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema/dialect"
)

func TestCanonicalKeepsWhatDocumentsCanHave(t *testing.T) {
	for text, want := range map[string]string{
		`{"maximum":9223372036854775807,"minimum":-9223372036854775808}`: `{"maximum":9007199254740991,"minimum":-9007199254740991}`,
		`{"exclusiveMaximum":18446744073709551616}`:                      `{"maximum":9007199254740991}`,
		`{"exclusiveMaximum":true,"maximum":9223372036854775807}`:        `{"maximum":9007199254740991}`,
		`{"properties":{"a":{"maxLength":9223372036854775807}}}`:         `{"properties":{"a":{}}}`,
		`{"maximum":1e300,"minimum":5}`:                                  `{"maximum":1e+300,"minimum":5}`,
	} {
		got, err := dialect.Canonical([]byte(text))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{`{"default":9223372036854775807}`, `{"minimum":9223372036854775807}`, `{"a":1,"a":2}`, `{"a":"\xff"}`} {
		if got, err := dialect.Canonical([]byte(text)); err == nil {
			t.Errorf("%s is accepted as %s", text, got)
		}
	}
	deep := strings.Repeat(`{"items":`, conf.MaxSchemaDepth-1) + "{}" + strings.Repeat("}", conf.MaxSchemaDepth-1)
	if _, err := dialect.Canonical([]byte(deep)); err != nil {
		t.Error(err)
	}
	if _, err := dialect.Canonical([]byte(`{"items":` + deep + `}}`)); err == nil {
		t.Error("no limit of the depth")
	}
}

func TestUpgrade(t *testing.T) {
	for text, want := range map[string]string{
		// draft-04
		`{"$schema":"http://json-schema.org/draft-04/schema#","id":"http://x/y.json","properties":{"id":{"minimum":1,"exclusiveMinimum":true}}}`: `{"$id":"http://x/y.json","$schema":"http://json-schema.org/draft-07/schema#","properties":{"id":{"exclusiveMinimum":1}}}`,
		`{"minimum":1,"exclusiveMinimum":false}`: `{"minimum":1}`,
		// references through the $id of the document
		`{"$id":"https://x/y.json","$ref":"https://x/y.json#/$defs/a"}`: `{"$id":"https://x/y.json","$ref":"#/$defs/a"}`,
		`{"$id":"https://x/y.json","$ref":"y.json#/$defs/a"}`:           `{"$id":"https://x/y.json","$ref":"#/$defs/a"}`,
		`{"$id":"https://x/y.json","$ref":"y.json"}`:                    `{"$id":"https://x/y.json","$ref":"#"}`,
		`{"$id":"https://x/y.json","$ref":"z.json#/$defs/a"}`:           `{"$id":"https://x/y.json","$ref":"z.json#/$defs/a"}`,
		`{"$ref":"z.json#/$defs/a"}`:                                    `{"$ref":"z.json#/$defs/a"}`,
		`{"$ref":"#/$defs/a"}`:                                          `{"$ref":"#/$defs/a"}`,
		// bundled parts, and names
		`{"$id":"https://x/y","$defs":{"p":{"$id":"part","$defs":{"q":{}},"items":{"$ref":"#/$defs/q"}}},"items":{"$ref":"part"}}`: `{"$defs":{"p":{"$defs":{"q":{}},"items":{"$ref":"#/$defs/p/$defs/q"}}},"$id":"https://x/y","items":{"$ref":"#/$defs/p"}}`,
		`{"definitions":{"p":{"$id":"#name"}},"items":{"$ref":"#name"}}`:                                                           `{"definitions":{"p":{}},"items":{"$ref":"#/definitions/p"}}`,
		`{"$defs":{"p":{"$anchor":"name"}},"items":{"$ref":"#name"}}`:                                                              `{"$defs":{"p":{"$anchor":"name"}},"items":{"$ref":"#/$defs/p"}}`,
		// data is no schema
		`{"default":{"$ref":"x","id":"y"},"enum":[{"$id":"z"}]}`: `{"default":{"$ref":"x","id":"y"},"enum":[{"$id":"z"}]}`,
	} {
		doc, err := conf.ParseSchema([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		dialect.Upgrade(doc)
		got, err := json.Marshal(doc)
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s %v\nwant %s", text, got, err, want)
		}
	}
}
