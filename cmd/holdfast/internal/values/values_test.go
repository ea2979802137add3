package values

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDeltas(t *testing.T) {
	before := `{"a":1,"b":{"x":[1,2],"y":{}},"c":"<t>","same":{"k":null}}`
	after := `{"a":2,"b":{"x":[1,3],"z":0},"same":{"k":null},"n":null}`
	ds, err := Compare([]byte(before), []byte(after))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	WriteDeltas(&b, ds, false)
	want := "- a = 1\n+ a = 2\n- b.x = [1,2]\n+ b.x = [1,3]\n- b.y = {}\n+ b.z = 0\n- c = \"<t>\"\n+ n = null\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	WriteDeltas(&b, ds[:1], true)
	if want := red + "- a = 1" + plain + "\n" + green + "+ a = 2" + plain + "\n"; b.String() != want {
		t.Errorf("colored %q, want %q", b.String(), want)
	}
	line, err := json.Marshal(ds[5:])
	if err != nil || string(line) != `[{"key":"n","new":null}]` {
		t.Errorf("an added null is %s, %v", line, err)
	}
	if ds, err := Compare(nil, []byte(" ")); err != nil || len(ds) != 0 {
		t.Errorf("nothing against nothing: %v, %v", ds, err)
	}
}
