package envfile

import (
	"os/exec"
	"testing"
)

// Parse reads the quoting of a .env file as sh does.
func TestParseAgreesWithSh(t *testing.T) {
	text := "# a comment\nA=plain\nB='single $x \"quoted\" \\n'\nC=\"double \\\"q\\\" \\$x \\` \\\\ \\z it's\"\nD=back\\ slash\\\\\nE=''\nF='two\nlines'\nG=a\\'b'\n'c\n"
	got, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range got {
		out, err := exec.Command("sh", "-c", text+`printf %s "$`+name+`"`).Output()
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != value {
			t.Errorf("%s = %q, sh says %q", name, value, out)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d variables, want 7: %q", len(got), got)
	}
	for _, bad := range []string{"no line", "A='open\n", "a b=1\n"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
