package cli

import (
	"os"
	"os/exec"
	"regexp"
)

// commands finds the commands that a text shows: the program's name and a word.
var commands = regexp.MustCompile(`(^|[\s(;:"])holdfast ((?:--)?[a-z])`)

// Runnable is text with its commands as a reader can type them here: where no holdfast is
// on PATH, they begin with the path by which this program was called.
func Runnable(text string) string {
	if _, err := exec.LookPath("holdfast"); err == nil || len(os.Args) == 0 {
		return text
	}
	return withProgram(text, os.Args[0])
}

func withProgram(text, program string) string {
	return commands.ReplaceAllStringFunc(text, func(found string) string {
		m := commands.FindStringSubmatch(found)
		return m[1] + program + " " + m[2]
	})
}
