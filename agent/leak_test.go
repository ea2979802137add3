package agent_test

import (
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// TestRefusalsTellNoSecrets: whatever is wrong with a secret, the refusal does not
// repeat it.
func TestRefusalsTellNoSecrets(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, nil)).ready()
	r.must("PUT", "schemas/strict", `{"type":"object","additionalProperties":false,"properties":{
 "pattern":{"type":"string","pattern":"^[0-9]+$","x-secret":true},
 "enum":{"type":"string","enum":["one","two"],"x-secret":true},
 "format":{"type":"string","format":"uri","x-secret":true},
 "short":{"type":"string","maxLength":3,"x-secret":true},
 "pin":{"type":"integer","maximum":10,"x-secret":true},
 "list":{"type":"array","items":{"type":"integer"},"uniqueItems":true,"x-secret":true},
 "object":{"type":"object","additionalProperties":false,"properties":{"a":{"type":"integer"}},"x-secret":true},
 "either":{"oneOf":[{"type":"integer"},{"type":"string","maxLength":2}],"x-secret":true},
 "deep":{"type":"object","properties":{"password":{"type":"string","maxLength":3,"x-secret":true}}}}}`)
	const canary, number = "kanarienvogel", "98765432109876543210"
	values := []string{
		`"` + canary + `"`, `["` + canary + `","` + canary + `"]`, `{"` + canary + `":1}`, `{"a":"` + canary + `"}`,
		`{"` + canary + `":1,"` + canary + `":2}`, number, `-` + number + `.5e300`, `[` + number + `]`, `"` + canary + `\ud800"`, "\"" + canary + "\xff\"",
		`"` + canary, canary, `0` + number, `{"a":` + canary + `}`, `"` + canary + `\q"`, "\"" + canary + "\x01\"", `"` + canary + `" "` + canary + `"`,
	}
	leaks := func(what string, code int, body string) {
		t.Helper()
		if strings.Contains(body, canary) || strings.Contains(body, number) {
			t.Errorf("%s: %d %s", what, code, body)
		}
	}
	for _, key := range []string{"pattern", "enum", "format", "short", "pin", "list", "object", "either", "deep.password", "none"} {
		for _, v := range values {
			code, body := r.admin("PUT", "services/strict/secrets/"+key, `{"value":`+v+`}`)
			leaks("set "+key+" "+v, code, body)
			if strings.Contains(v, `1,"`) { // a document's names are told
				continue
			}
			doc := `{"` + key + `":` + v + `}`
			if key == "deep.password" {
				doc = `{"deep":{"password":` + v + `}}`
			}
			code, body = r.admin("PATCH", "services/strict", doc)
			leaks("patch "+key+" "+v, code, body)
			code, body = r.admin("PUT", "services/strict", `{"service":"strict","version":1,"config":`+doc+`}`)
			leaks("put "+key+" "+v, code, body)
			code, body = r.admin("POST", "services/strict/validate", `{"config":`+doc+`}`)
			leaks("validate "+key+" "+v, code, body)
		}
	}
}
