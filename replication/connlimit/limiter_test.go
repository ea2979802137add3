package connlimit

import "testing"

func TestSource(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"192.0.2.7:1234":          "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1234": "192.0.2.7/32",
		"[2001:db8:1:2:3::9]:80":  "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80":       "fe80::/64",
		"@":                       "invalid Prefix",
		"":                        "invalid Prefix",
	} {
		if got := Source(remote).String(); got != want {
			t.Errorf("%q: %s, want %s", remote, got, want)
		}
	}
}
