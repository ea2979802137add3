package testenv

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// requireServedReadOnly starts an agent whose disk cannot be written: it serves what it
// had, and says in health and log that it only reads, and why.
func requireServedReadOnly(t *testing.T, a *Agent, want State) {
	t.Helper()
	mark := len(a.Log())
	a.Start()
	Await(t, "the agent to serve", func() bool { _, err := a.TryDocument("stt-worker"); return err == nil || !a.Running() })
	if !a.Running() {
		t.Fatalf("the agent ended:\n%s", a.Log()[mark:])
	}
	want.Require(t, a, "lkg", false)
	h := a.AwaitHealth("the agent to say why it only reads", func(h conf.Health) bool { return readOnly(h) && h.Err != nil })
	if h.OK || !h.LKGCacheValid {
		t.Errorf("health: %s", jsonText(h))
	}
	a.Admin("PATCH", "/api/config/services/stt-worker", `{"vad_threshold":0.1}`).Want(t, http.StatusServiceUnavailable, conf.CodeReadOnly)
	if !strings.Contains(a.Log()[mark:], "last known good values") || !strings.Contains(a.Log()[mark:], "level=ERROR") {
		t.Errorf("the log does not say it:\n%s", a.Log()[mark:])
	}
}

// requireRecovered waits until the agent works, without a restart.
func requireRecovered(t *testing.T, a *Agent, want State) {
	t.Helper()
	a.AwaitNormal()
	want.Require(t, a, "replica", false)
	a.Patch("stt-worker", `{"vad_threshold":0.2}`)
}

// A disk that is mounted read-only at a restart keeps no reads down.
func TestReadOnlyDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
	}{
		{"with a socket", nil},
		{"without a socket", []string{"CONFIG_LOCAL_SOCKET=none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := NewAgent(t, append(c.env, "CONFIG_MQTT_REISSUE=0")...)
			smallDisk(t, a, 200)
			a.Start()
			a.AwaitNormal()
			a.Patch("stt-worker", `{"vad_threshold":0.7}`)
			want := a.State()
			a.Stop() // the last-known-good file is as new as the store
			a.Start()
			a.AwaitNormal()
			a.Kill() // leaves its socket behind
			remount := func(flags uintptr) {
				t.Helper()
				if err := syscall.Mount("none", a.Dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
					t.Fatal(err)
				}
			}
			remount(syscall.MS_RDONLY)
			requireServedReadOnly(t, a, want)
			second := Spawn(t, filepath.Dir(a.Dir), append(a.Env(), "CONFIG_LOCAL_ADDR=127.0.0.1:0"), a.bin, a.args...)
			if code := second.Wait(t, "a second agent in the same directory to end"); code != 2 {
				t.Errorf("a second agent in the same directory ended with %d:\n%s", code, second.Output())
			}
			remount(0)
			requireRecovered(t, a, want)
		})
	}
}

// A full disk at a restart keeps no reads down.
func TestFullDiskAtRestart(t *testing.T) {
	t.Parallel()
	a := NewAgent(t, "CONFIG_MQTT_REISSUE=0", "CONFIG_MIN_FREE_MB=0")
	smallDisk(t, a, 40)
	a.Start()
	a.AwaitNormal()
	a.Patch("stt-worker", `{"vad_threshold":0.7}`)
	want := a.State()
	a.Stop()
	fill(t, a, 0)
	requireServedReadOnly(t, a, want)
	if err := os.Remove(a.Path("ballast")); err != nil {
		t.Fatal(err)
	}
	requireRecovered(t, a, want)
}

// An agent whose user may not write to its data directory serves what it had.
func TestNoWritePermission(t *testing.T) {
	t.Parallel()
	needRoot(t, "another user", func() error { return nil })
	a, want := prepared(t)
	a.Stop()
	const nobody = 65534
	chown := func(id int) {
		err := filepath.WalkDir(filepath.Dir(filepath.Dir(a.Dir)), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, id, id)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	chown(nobody)
	a.asUser = nobody
	if err := os.Chmod(a.Dir, 0o500); err != nil {
		t.Fatal(err)
	}
	requireServedReadOnly(t, a, want)
	if err := os.Chmod(a.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	requireRecovered(t, a, want)
}

// An observer on a disk that cannot be written serves what it had, too.
func TestReadOnlyDiskOfObserver(t *testing.T) {
	t.Parallel()
	member, want := prepared(t)
	o := newObserver(t, member, "127.0.0.1:1", "CONFIG_MEMBER_URL=http://"+member.AdminAddr, "CONFIG_OBSERVE_URL=", "CONFIG_LOCAL_SOCKET="+filepath.Join(t.TempDir(), "s"))
	smallDisk(t, o, 20)
	o.Start()
	o.AwaitServing("stt-worker")
	o.Stop()
	member.Stop()
	if err := syscall.Mount("none", o.Dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	o.Start()
	d := o.AwaitServing("stt-worker")
	if got, asked := string(d.Config), string(want["stt-worker"].Config); got != asked || d.Source != "lkg" {
		t.Errorf("served from %s: %s, want %s", d.Source, got, asked)
	}
	var h conf.Health
	o.Local("/healthz").OK(t).Into(t, &h)
	if h.OK || !readOnly(h) || h.Err == nil || !strings.Contains(*h.Err, "cannot be written") || !strings.Contains(o.Log(), "cannot be written") {
		t.Errorf("health is %s; the log:\n%s", jsonText(h), o.Log())
	}
}
