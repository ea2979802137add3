package replica

import "testing"

func TestMajorityDiffers(t *testing.T) {
	for _, c := range []struct {
		others string // one digest a voter
		voters int
		want   bool
	}{
		{"bb", 3, true},
		{"bc", 3, false},
		{"ab", 3, false},
		{"b", 2, false}, // one against one: nobody knows who is wrong
		{"b", 1, true},  // a non-voter against the only voter
		{"b", 3, false}, // the third does not answer
		{"bbcc", 5, false},
		{"bbbc", 5, true},
	} {
		others := map[string]string{}
		for i, d := range c.others {
			others[string(rune('0'+i))] = string(d)
		}
		if got := majorityDiffers("a", others, c.voters); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
