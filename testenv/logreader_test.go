package testenv

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// An agent serves, takes writes and stops in good order whatever the reader of its log
// does.
func TestReaderOfTheLog(t *testing.T) {
	t.Parallel()
	for _, stuck := range []bool{false, true} {
		name := map[bool]string{false: "gone", true: "stuck"}[stuck]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := NewAgent(t, "CONFIG_MANAGER_LOG_LEVEL=DEBUG")
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _, _ = r.Close(), w.Close() }()
			if stuck {
				fillPipe(t, w)
			} else {
				_ = r.Close()
			}
			a.proc = spawnTo(t, a.log, w, filepath.Dir(a.Dir), a.Env(), a.bin, a.args...)
			a.AwaitNormal()
			a.Patch("stt-worker", `{"vad_threshold":0.6}`)
			if code, _, body := a.Once("GET", "http://"+a.LocalAddr+"/metrics", ""); code != http.StatusOK || !strings.Contains(body, "holdfast_log_dropped_total") {
				t.Errorf("metrics: %d, without the dropped lines", code)
			}
			a.proc.Signal(syscall.SIGTERM)
			if code := a.proc.Wait(t, "the agent to stop after SIGTERM"); code != 0 {
				t.Errorf("the agent ended with code %d", code)
			}
		})
	}
}

// fillPipe fills a pipe, so that the next write to it blocks.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 4096)
	if err := raw.Write(func(fd uintptr) bool {
		for err == nil {
			_, err = syscall.Write(int(fd), chunk)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

// SIGHUP does not end an agent: it reads its log level again.
func TestHangup(t *testing.T) {
	t.Parallel()
	a := StartProcess(t)
	a.proc.Signal(syscall.SIGHUP)
	Await(t, "the log level", func() bool { return strings.Contains(a.Log(), "log_level=INFO") })
	f, err := os.OpenFile(a.EnvFile(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("CONFIG_MANAGER_LOG_LEVEL=DEBUG\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	a.proc.Signal(syscall.SIGHUP)
	Await(t, "the new level", func() bool { return strings.Contains(a.Log(), "log_level=DEBUG") })
	a.Patch("stt-worker", `{"vad_threshold":0.6}`)
	Await(t, "a line of that level", func() bool { return strings.Contains(a.Log(), "level=DEBUG msg=") })
	a.Stop()
}
