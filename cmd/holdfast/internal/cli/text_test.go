package cli

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	keys := []string{"vad_threshold", "whisper_model", "channels"}
	for in, want := range map[string]string{"vad_treshold": "vad_threshold", "chanels": "channels", "volume": "", "x": ""} {
		if got := Nearest(in, keys); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	if got := Clean("a\x1b[2Jb\x07c\u009bd\te"); strings.ContainsAny(got, "\x1b\x07\u009b") || !strings.Contains(got, "\t") {
		t.Errorf("clean = %q", got)
	}
}
