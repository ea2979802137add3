package change

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestTypedValues(t *testing.T) {
	null := json.RawMessage("null")
	fs := newFieldSet(conf.SchemaInfo{Service: "s", Fields: []conf.Field{
		{Key: "name", Type: conf.TypeString},
		{Key: "count", Type: conf.TypeInteger, Default: json.RawMessage("3")},
		{Key: "share", Type: conf.TypeFloat},
		{Key: "on", Type: conf.TypeBoolean},
		{Key: "mode", Type: conf.TypeEnum, Allowed: []string{"a", "b"}},
		{Key: "rate", Type: conf.TypeEnum, Allowed: []string{"8000", "16000"}, JSONTypes: []string{"integer"}},
		{Key: "file", Type: conf.TypePath},
		{Key: "url", Type: conf.TypeString, JSONTypes: []string{"string", "null"}, Default: null},
		{Key: "list", Type: conf.TypeString, JSONTypes: []string{"array"}},
		{Key: "limits", Type: conf.TypeString, JSONTypes: []string{"object"}},
		{Key: "either", Type: conf.TypeString, JSONTypes: []string{"integer", "string"}},
		{Key: "nested.deep", Type: conf.TypeInteger},
	}})
	for _, tc := range []struct{ in, want, fails string }{
		{in: "name=12", want: `{"name":"12"}`},
		{in: "name=true", want: `{"name":"true"}`},
		{in: "name=", want: `{"name":""}`},
		{in: "name=a=b", want: `{"name":"a=b"}`},
		{in: "count=12", want: `{"count":12}`},
		{in: "count=many", fails: `"many" is not an integer`},
		{in: "count=1.5", fails: `"1.5" is not an integer`},
		{in: "count=9007199254740993", fails: "is not an integer"},
		{in: "share=1", want: `{"share":1}`},
		{in: "share=0.5", want: `{"share":0.5}`},
		{in: "share=", fails: "is not a number"},
		{in: "on=true", want: `{"on":true}`},
		{in: "on=yes", fails: `"yes" is not true or false`},
		{in: "mode=a", want: `{"mode":"a"}`},
		{in: "rate=8000", want: `{"rate":8000}`},
		{in: "file=/dev/null", want: `{"file":"/dev/null"}`},
		{in: "url=null", want: `{"url":null}`},
		{in: "url=ws://x", want: `{"url":"ws://x"}`},
		{in: `list=["a"]`, want: `{"list":["a"]}`},
		{in: "list=a", fails: `"a" is not an array`},
		{in: `limits={"x":1}`, want: `{"limits":{"x":1}}`},
		{in: "limits.x=1", want: `{"limits":{"x":1}}`},
		{in: "either=5", want: `{"either":5}`},
		{in: "either=five", want: `{"either":"five"}`},
		{in: "nested.deep=5", want: `{"nested":{"deep":5}}`},
		{in: "name:=12", want: `{"name":12}`},
		{in: "name:={", fails: "malformed JSON"},
		{in: `name:={"a":1,"a":2}`, fails: "duplicate key"},
		{in: "url:=null", want: `{"url":null}`},
		{in: "count:=null", fails: "unset"},
		{in: "cuont=3", fails: "did you mean count?"},
		{in: "something_else=3", want: `{"something_else":3}`},
	} {
		list, err := parseAssignments(&cobra.Command{}, []string{tc.in})
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		got, err := fs.patch(list)
		switch {
		case tc.fails == "" && err != nil:
			t.Errorf("%s: %v %v", tc.in, err, err.(*conf.Error).Details)
		case tc.fails == "" && string(got) != tc.want:
			t.Errorf("%s = %s, want %s", tc.in, got, tc.want)
		case tc.fails != "" && err == nil:
			t.Errorf("%s = %s, want an error", tc.in, got)
		case tc.fails != "":
			e := err.(*conf.Error)
			if e.Code != conf.CodeInvalid || len(e.Details) != 1 || !strings.Contains(e.Details[0].Message, tc.fails) {
				t.Errorf("%s: %v %v, want %q", tc.in, e, e.Details, tc.fails)
			}
		}
	}
}

func TestPatchTellsAllErrorsAndMergesKeys(t *testing.T) {
	fs := newFieldSet(conf.SchemaInfo{Fields: []conf.Field{{Key: "a.x", Type: conf.TypeInteger}, {Key: "a.y", Type: conf.TypeInteger}}})
	list, err := parseAssignments(&cobra.Command{}, []string{"a.x=1", "a.y=2"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := fs.patch(list)
	if err != nil || string(got) != `{"a":{"x":1,"y":2}}` {
		t.Errorf("patch = %s, %v", got, err)
	}
	list[0].text, list[1].text = "p", "q"
	_, err = fs.patch(list)
	if e, ok := err.(*conf.Error); !ok || len(e.Details) != 2 {
		t.Errorf("patch = %v, want two details", err)
	}
}

func TestAssignmentsRefused(t *testing.T) {
	for _, args := range [][]string{{"a"}, {"=1"}, {":=1"}, {"a=1", "a=2"}, {"a=1", "a:=2"}} {
		if _, err := parseAssignments(&cobra.Command{}, args); conf.CodeOf(err) != conf.CodeUsage {
			t.Errorf("%q: %v, want a usage error", args, err)
		}
	}
}
