package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// A hint names the program as it can be called: by its path, where none is on PATH.
func TestHintsNameTheProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out bytes.Buffer
	Report(&out, conf.Errorf(conf.CodeNotFound, "nothing").WithHint("holdfast schema get x shows it (see holdfast --help), or holdfast-data has it"))
	p := os.Args[0]
	if want := "hint: " + p + " schema get x shows it (see " + p + " --help), or holdfast-data has it\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s\nwant %s", &out, want)
	}
	out.Reset()
	a := &App{Err: &out}
	a.Note("no tokens: %s makes one", "holdfast token create")
	notRead(&out, conf.Errorf(conf.CodeDenied, "of another user").WithHint("check: holdfast health"))
	if want := "no tokens: " + p + " token create makes one\nholdfast: settings not read: of another user\nhint: check: " + p + " health\n"; out.String() != want {
		t.Errorf("%s\nwant %s", &out, want)
	}
}
