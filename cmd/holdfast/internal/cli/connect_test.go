package cli

import (
	"bytes"
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

// A command does not take from a file that others control where it sends a token or a
// secret; it says that it did not read the file.
func TestEnvFileOfOthers(t *testing.T) {
	const stranger = 12345
	env := map[string]string{"CONFIG_API_TOKEN": "mine"}
	for _, tc := range []struct {
		name  string
		owner int
		mode  os.FileMode
		link  bool // a symbolic link of the owner, to a file of this user
		named bool // by --env-file
		sudo  string
		read  bool
		says  string
	}{
		{name: "own", owner: os.Getuid(), mode: 0o600, read: true},
		{name: "own, readable by others", owner: os.Getuid(), mode: 0o644, read: true},
		{name: "own, writable by others", owner: os.Getuid(), mode: 0o602, says: "mode 0602"},
		{name: "own, writable by its group", owner: os.Getuid(), mode: 0o660, says: "mode 0660"},
		{name: "own, writable by others, named", owner: os.Getuid(), mode: 0o602, named: true, says: "mode 0602"},
		{name: "of another user", owner: stranger, mode: 0o644, says: "user with the id 12345"},
		{name: "link of another user", owner: stranger, mode: 0o600, link: true, says: "user with the id 12345"},
		{name: "of another user, named", owner: stranger, mode: 0o644, named: true, read: true},
		{name: "of the user before sudo", owner: stranger, mode: 0o600, sudo: "12345", read: true},
		{name: "of another user, under sudo", owner: stranger, mode: 0o600, sudo: "12346", says: "user with the id 12345"},
	} {
		if tc.owner != os.Getuid() && os.Getuid() != 0 {
			continue // only root can give a file away
		}
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, ".env")
			file := path
			if tc.link {
				file = filepath.Join(dir, "target")
				if err := os.Symlink(file, path); err != nil {
					t.Fatal(err)
				}
			}
			err := os.WriteFile(file, []byte("CONFIG_MANAGER_HOST=192.0.2.1\nCONFIG_LOCAL_ADDR=127.0.0.1:9\nLITESTREAM_S3_ENDPOINT=file:///stranger\n"), tc.mode)
			if err == nil {
				err = os.Chmod(file, tc.mode)
			}
			if err == nil {
				err = os.Lchown(path, tc.owner, -1)
			}
			if err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			a := &App{dataDir: dir, Err: &errs, LookupEnv: func(name string) (string, bool) {
				if name == "SUDO_UID" {
					return tc.sudo, tc.sudo != ""
				}
				v, ok := env[name]
				return v, ok
			}}
			if tc.named {
				a.envFile = path
			}
			o, err := a.Options()
			if tc.named && !tc.read {
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v, want an error with %q", err, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if read := o.AdminURL() == "http://192.0.2.1:8081" && o.LocalAddr == "127.0.0.1:9" && o.Backup.Enabled(); read != tc.read {
				t.Errorf("addresses %s and %s, backup %t: want them from the file: %t", o.AdminURL(), o.LocalURL(), o.Backup.Enabled(), tc.read)
			}
			if token, err := a.apiToken(conf.RoleRead); token != "mine" || err != nil {
				t.Errorf("token %q, %v: want the one of the environment", token, err)
			}
			if (errs.Len() == 0) != (tc.says == "") || !strings.Contains(errs.String(), tc.says) || strings.Count(errs.String(), "hint: ") > 1 {
				t.Errorf("stderr %q, want %q", errs.String(), tc.says)
			}
		})
	}
}

// An agent that was started with flags is found by what it wrote into its directory; the
// environment comes first, and a file that others control does not count.
func TestAddressesOfTheRunningAgent(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "listening.env")
	for _, f := range []struct{ name, text string }{
		{file, "CONFIG_ROLE=observer\nCONFIG_LOCAL_ADDR=127.0.0.1:9\nCONFIG_MANAGER_HOST=127.0.0.1\nCONFIG_MANAGER_PORT=10\nMQTT_URL=mqtt://x\n"},
		{filepath.Join(dir, ".env"), "CONFIG_MANAGER_PORT=11\nCONFIG_LOCAL_ADDR=127.0.0.1:12\n"},
	} {
		if err := os.WriteFile(f.name, []byte(f.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func(env map[string]string, envFile string) (local, admin string, observer bool, said string) {
		t.Helper()
		var errs bytes.Buffer
		a := &App{dataDir: dir, envFile: envFile, Err: &errs, LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
		o, err := a.Options()
		if err != nil {
			t.Fatal(err)
		}
		if o.MQTTURL != "" {
			t.Error("the file sets more than addresses")
		}
		return o.LocalURL(), o.AdminURL(), a.IsObserver(), errs.String()
	}
	if local, admin, observer, said := look(nil, ""); local != "http://127.0.0.1:9" || admin != "http://127.0.0.1:10" || !observer || said != "" {
		t.Errorf("got %s, %s, observer %t, %q", local, admin, observer, said)
	}
	if local, admin, _, _ := look(map[string]string{"CONFIG_LOCAL_ADDR": "127.0.0.1:13", "CONFIG_MANAGER_PORT": "14"}, ""); local != "http://127.0.0.1:13" || admin != "http://127.0.0.1:14" {
		t.Errorf("with the environment: %s, %s", local, admin)
	}
	if local, _, _, _ := look(nil, filepath.Join(dir, ".env")); local != "http://127.0.0.1:12" {
		t.Errorf("with --env-file: %s", local)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if local, _, _, said := look(nil, ""); local != "http://127.0.0.1:12" || !strings.Contains(said, "listening.env") {
		t.Errorf("with a file that others may write: %s, said %q", local, said)
	}
}
