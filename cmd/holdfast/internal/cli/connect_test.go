package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestPickToken(t *testing.T) {
	const list = "w1:config.write, r:1:config.read,w2:config.write,bad,:config.read"
	for _, tc := range []struct {
		list string
		need conf.Role
		want string
	}{
		{list, conf.RoleRead, "r:1"},
		{list, conf.RoleWrite, "w1"},
		{"w:config.write", conf.RoleRead, "w"},
		{"r:config.read", conf.RoleWrite, ""},
		{"", conf.RoleRead, ""},
	} {
		if got := pickToken(tc.list, tc.need); got != tc.want {
			t.Errorf("pickToken(%q, %s) = %q, want %q", tc.list, tc.need, got, tc.want)
		}
	}
}

// Another user's .env file must not keep a reader from finding the agent.
func TestUnreadableEnvFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("CONFIG_API_TOKENS=t:config.read\n"), 0); err != nil {
		t.Fatal(err)
	}
	a := &App{dataDir: dir, LookupEnv: func(string) (string, bool) { return "", false }}
	if _, err := a.Options(); err != nil {
		t.Fatal(err)
	}
	token, err := a.apiToken(conf.RoleRead)
	if os.Getuid() == 0 { // who may read every file
		if err != nil || token != "t" {
			t.Errorf("root got %q, %v", token, err)
		}
		return
	}
	if conf.CodeOf(err) != conf.CodeUnauthenticated || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v, want the error to name the file", err)
	}
}
