package pki

import (
	"os"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Whatever has been written when the machine dies, the next start finds the old
// identity, the new one, or none where there was none of this cluster.
func TestCrashWhileSaving(t *testing.T) {
	now := time.Now()
	boot := func(cluster string) *Identity {
		id, err := Bootstrap(cluster, "n1", 24*time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	old := boot("blue")
	renewed, err := old.Reissue(48*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewCA("blue", now)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := issueTo(ca, old.Key, "n1", RoleServer, 24*time.Hour, now, append(old.CAs, ca.cert))
	if err != nil {
		t.Fatal(err)
	}
	rotatedOnly, err := issueTo(ca, renewed.Key, "n1", RoleServer, 24*time.Hour, now, append(old.CAs[:0:0], ca.cert))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		before, after *Identity
		none          bool
	}{
		"first":                    {nil, old, true},
		"renewal":                  {old, renewed, false},
		"rotation":                 {old, rotated, false},
		"rotation without the old": {old, rotatedOnly, false},
		"other cluster":            {old, boot("green"), true},
		"the same again":           {old, old, false},
	} {
		for cut := 0; ; cut++ {
			dir := t.TempDir()
			if tc.before != nil {
				if err := tc.before.Save(dir); err != nil {
					t.Fatal(err)
				}
			}
			steps, err := tc.after.saveSteps(dir)
			if err != nil {
				t.Fatal(err)
			}
			if cut > len(steps) {
				break
			}
			for _, s := range steps[:cut] {
				if err := s.do(dir); err != nil {
					t.Fatal(err)
				}
			}
			got, err := LoadIdentity(dir)
			switch {
			case tc.none && conf.CodeOf(err) == conf.CodeNotFound && cut < len(steps):
			case err != nil:
				t.Errorf("%s: after %d of %d steps: %v", name, cut, len(steps), err)
			case cut == len(steps) && got.Cert.Equal(tc.after.Cert) && len(got.CAs) == len(tc.after.CAs):
			case cut == len(steps) || !got.Cert.Equal(tc.after.Cert) && !got.Cert.Equal(tc.before.Cert):
				t.Errorf("%s: after %d of %d steps another identity is there", name, cut, len(steps))
			}
			if err := tc.after.Save(dir); err != nil {
				t.Fatal(err)
			}
			if got, err := LoadIdentity(dir); err != nil || !got.Cert.Equal(tc.after.Cert) || got.CA == nil {
				t.Errorf("%s: saved again after %d steps: %v", name, cut, err)
			}
			if files, _ := os.ReadDir(dir); len(files) != 4 {
				t.Errorf("%s: %v are left", name, files)
			}
		}
	}
}
