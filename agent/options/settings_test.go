package options

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestResolvePrecedence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("CONFIG_MANAGER_PORT=1001\nCONFIG_NODE_ID=from-file\nCONFIG_LOG_FORMAT=json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CONFIG_DATA_DIR": dir, "CONFIG_MANAGER_PORT": "1002", "CONFIG_NODE_ID": "from-env"}
	flags := map[string]string{"manager-port": "1003"}
	look := func(m map[string]string) func(string) (string, bool) {
		return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
	}
	o := Defaults()
	if err := o.Resolve(look(flags), look(env)); err != nil {
		t.Fatal(err)
	}
	if o.ManagerPort != "1003" || o.NodeID != "from-env" || o.LogFormat != "json" || o.DBPath != filepath.Join(dir, "config.db") {
		t.Fatalf("%+v", o)
	}
	if v, ok := o.LookupEnv("CONFIG_NODE_ID"); !ok || v != "from-env" {
		t.Fatal(v)
	}
}

func TestBadSettings(t *testing.T) {
	for env, value := range map[string]string{
		"CONFIG_LOCAL_ADDR": "0.0.0.0:2770", "CONFIG_MANAGER_PORT": "http", "CONFIG_CLUSTER_ADDR": "2771",
		"CONFIG_MANAGER_LOG_LEVEL": "LOUD", "ALLOW_AUTO_REBUILD": "perhaps", "CONFIG_SERVICE_NAME": "No Such", "CONFIG_VERIFY_EVERY": "often",
	} {
		o := Defaults()
		err := o.Resolve(nil, func(k string) (string, bool) {
			switch k {
			case env:
				return value, true
			case "CONFIG_DATA_DIR":
				return t.TempDir(), true
			}
			return "", false
		})
		if code := conf.CodeOf(err); code != conf.CodeUsage && code != conf.CodeInvalid {
			t.Errorf("%s=%s: %v", env, value, err)
		} else if conf.HintOf(err) == "" {
			t.Errorf("%s=%s: no hint in %v", env, value, err)
		}
	}
}

func TestMalformedEnvFileIsNotQuoted(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("CONFIG_API_TOKENS=\"canary-token:config.write\nREBUILD_TOKEN 'canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Defaults()
	err := o.Resolve(nil, func(k string) (string, bool) { return dir, k == "CONFIG_DATA_DIR" })
	if err == nil || strings.Contains(err.Error()+conf.HintOf(err), "canary") {
		t.Fatalf("%v (%s)", err, conf.HintOf(err))
	}
}

func TestEverySettingIsWellFormed(t *testing.T) {
	o := Defaults()
	seen := map[string]bool{}
	for _, s := range Settings(&o) {
		if s.Flag == "" || s.Env == "" || s.Usage == "" || seen[s.Flag] || seen[s.Env] || !slices.Contains(Groups(), s.Group) {
			t.Errorf("%+v", s)
		}
		seen[s.Flag], seen[s.Env] = true, true
		if err := s.Set(s.Get()); err != nil {
			t.Errorf("%s does not take its own value: %v", s.Flag, err)
		}
	}
}

func TestAdminInsecure(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host, ui, cert string
		want           bool
	}{
		{"localhost", "127.0.0.1:8080", "", false},
		{"::1", "none", "", false},
		{"0.0.0.0", "none", "", true},
		{"", "none", "", true},
		{"config.example", "none", "", true},
		{"localhost", "0.0.0.0:8080", "", true},
		{"localhost", ":8080", "", true},
		{"0.0.0.0", ":8080", "cert.pem", false},
	} {
		o := Options{Ports: Ports{ManagerHost: tc.host, UIAddr: tc.ui, ManagerCert: tc.cert}}
		if got := o.AdminInsecure(); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}
