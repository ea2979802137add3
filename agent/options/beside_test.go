package options

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"pgrep -x stt": `["pgrep" "-x" "stt"]`, `a "b c" 'd "e"' f`: `["a" "b c" "d \"e\"" "f"]`,
		` a  b	`: `["a" "b"]`, `a ""`: `["a" ""]`, `a$HOME \n`: `["a$HOME" "\\n"]`,
	} {
		got, err := Words(in)
		if err != nil || fmt.Sprintf("%q", got) != want {
			t.Errorf("%s: %q %v", in, got, err)
		}
	}
	for _, in := range []string{"", " ", `a "b`, `'`, `"" a`} {
		if got, err := Words(in); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}

func TestBesideSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, want string }{
		{"CONFIG_INSTANCE", "stt-2", ""},
		{"CONFIG_INSTANCE", "a b", "CONFIG_INSTANCE"},
		{"CONFIG_LABELS", "zone=a, tier=canary", ""},
		{"CONFIG_LABELS", "zone", "CONFIG_LABELS"},
		{"CONFIG_LABELS", "zone=a,zone=b", "CONFIG_LABELS"},
		{"CONFIG_LABELS", "zone=a b", "CONFIG_LABELS"},
		{"CONFIG_HEALTH_URL", "http://127.0.0.1:9/x", ""},
		{"CONFIG_HEALTH_URL", "ftp://127.0.0.1:9/x", "CONFIG_HEALTH_URL"},
		{"CONFIG_HEALTH_URL", "127.0.0.1:9", "CONFIG_HEALTH_URL"},
		{"CONFIG_HEALTH_CMD", "pgrep -x 'stt", "CONFIG_HEALTH_CMD"},
		{"CONFIG_ACK_OPEN", "1", ""},
		{"CONFIG_ACK_OPEN", "maybe", "CONFIG_ACK_OPEN"},
	} {
		o := Defaults()
		o.DataDir = t.TempDir()
		err := o.ResolveWithoutFile(nil, func(name string) (string, bool) { return c.value, name == c.name })
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || conf.CodeOf(err) != conf.CodeUsage) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
}
