package testenv

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestCommandsNameTheProgram: where no holdfast is on PATH, the commands that are printed to
// be typed begin with the path by which the program was called.
func TestCommandsNameTheProgram(t *testing.T) {
	t.Parallel()
	a := StartProcess(t)
	program := Binary(t, "./cmd/holdfast")
	var out, notes bytes.Buffer
	cmd := exec.Command(program, "token", "create", "--role", "server")
	cmd.Env = append(append(cleanEnv(), a.Env()...), "PATH="+t.TempDir())
	cmd.Stdout, cmd.Stderr = &out, &notes
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &notes)
	}
	if !strings.HasPrefix(out.String(), program+" agent --join ") || !strings.Contains(notes.String(), "; "+program+" token revoke ") {
		t.Errorf("printed %q and %q, want commands of %s", &out, &notes, program)
	}
}
