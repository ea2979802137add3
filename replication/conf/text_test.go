package conf

import "testing"

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		limit, want int
	}{
		{"", "", 0, 0},
		{"port", "port", 3, 0},
		{"port", "prot", 3, 2},
		{"port", "ports", 3, 1},
		{"whisper_model", "whispr_model", 3, 1},
		{"", "abc", 3, 3},
		{"", "abcd", 3, 4}, // above the limit
		{"kitten", "sitting", 5, 3},
	} {
		for _, p := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := EditDistance(p[0], p[1], c.limit); got != c.want {
				t.Errorf("%q to %q: %d, want %d", p[0], p[1], got, c.want)
			}
		}
	}
}

func TestClip(t *testing.T) {
	long := make([]byte, 79)
	for i := range long {
		long[i] = 'a'
	}
	for s, want := range map[string]string{
		"": "", "short": "short", string(long) + "b": string(long) + "b", string(long) + "bc": string(long) + "b...", string(long) + "ü": string(long) + "...",
	} {
		if got := Clip(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
