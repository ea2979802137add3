package packagetest

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

// release runs make release for this machine in a clone at path, and returns what it wrote.
func release(t *testing.T, path, version string) string {
	t.Helper()
	base.Need(t, "git", "dpkg-deb", "sha256sum")
	top := output(t, exec.Command("git", "rev-parse", "--show-toplevel"))
	output(t, exec.Command("git", "clone", "-q", strings.TrimSpace(top), path))
	// What is not committed yet is tested, too.
	diff := exec.Command("git", "diff", "--binary", "HEAD")
	diff.Dir = strings.TrimSpace(top)
	if patch := output(t, diff); patch != "" {
		apply := exec.Command("git", "apply", "-")
		apply.Dir, apply.Stdin = path, strings.NewReader(patch)
		output(t, apply)
	}
	cmd := exec.Command(filepath.Join(path, "docs/deploy/package/release.sh"), filepath.Join(path, "dist"))
	cmd.Dir = path
	cmd.Env = append(os.Environ(), "VERSION="+version, "PLATFORMS=linux/"+runtime.GOARCH, "HOME="+os.Getenv("HOME"))
	output(t, cmd)
	return filepath.Join(path, "dist")
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

// Two clones at different places give the same bytes, and the list of contents names the
// modules that the binary says it has.
func TestSameBytes(t *testing.T) {
	var sums [2][]byte
	var dist string
	for i := range sums {
		dist = release(t, filepath.Join(t.TempDir(), strings.Repeat("deeper/", i)+"clone"), "v9.8.7")
		var err error
		if sums[i], err = os.ReadFile(filepath.Join(dist, "SHA256SUMS")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(sums[0], sums[1]) {
		t.Errorf("the same commit gave other bytes:\n%s\n%s", sums[0], sums[1])
	}
	for _, suffix := range []string{"_linux_" + runtime.GOARCH, ".deb", ".rpm", ".cdx.json"} {
		if !strings.Contains(string(sums[0]), suffix+"\n") {
			t.Errorf("the release has nothing that ends in %s:\n%s", suffix, sums[0])
		}
	}
	binary := filepath.Join(dist, "holdfast_v9.8.7_linux_"+runtime.GOARCH)
	if out := output(t, exec.Command(binary, "version")); !strings.HasPrefix(out, "holdfast v9.8.7 ") {
		t.Errorf("the binary says %q", out)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(binary + ".cdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var contents struct {
		Components []struct{ Name, Version string } `json:"components"`
	}
	if err := json.Unmarshal(data, &contents); err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, c := range contents.Components {
		listed[c.Name+"@"+c.Version] = true
	}
	for _, d := range info.Deps {
		if !listed[d.Path+"@"+d.Version] {
			t.Errorf("%s@%s is linked and not in the list of contents", d.Path, d.Version)
		}
	}
}

// The package is installed, used and removed under systemd, by testdata/walk.sh, in a
// container whose root is that of this machine with a layer above it that is thrown away.
func TestInstall(t *testing.T) {
	if os.Getuid() != 0 {
		base.Missing(t, "a root that may boot a container is needed")
	}
	base.Need(t, "systemd-nspawn", "systemd-analyze", "dpkg", "curl", "mount")
	dir := t.TempDir()
	root := container(t)
	walk, err := os.ReadFile("testdata/walk.sh")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"opt/walk.sh": walk,
		"etc/systemd/system/walk.service": []byte("[Unit]\nDescription=walk\nSuccessAction=exit-force\nFailureAction=exit-force\nAfter=multi-user.target\n" +
			"[Service]\nType=oneshot\nExecStart=/bin/sh -x /opt/walk.sh\nStandardOutput=append:/opt/walk.log\nStandardError=inherit\nTimeoutStartSec=300\n"),
	}
	for name, version := range map[string]string{"opt/old.deb": "v9.8.7", "opt/new.deb": "v9.8.8"} {
		found, _ := filepath.Glob(filepath.Join(release(t, filepath.Join(dir, version), version), "*.deb"))
		if len(found) != 1 {
			t.Fatalf("%s has the packages %v", version, found)
		}
		if files[name], err = os.ReadFile(found[0]); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(root, name), data, 0o644); err != nil { //nolint:gosec // systemd reads it
			t.Fatal(err)
		}
	}
	wants := filepath.Join(root, "etc/systemd/system/default.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil { //nolint:gosec // systemd reads it
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/systemd/system/walk.service", filepath.Join(wants, "walk.service")); err != nil {
		t.Fatal(err)
	}
	boot := exec.CommandContext(t.Context(), "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "-D", root, "--boot")
	console, bootErr := boot.CombinedOutput()
	log, err := os.ReadFile(filepath.Join(root, "opt/walk.log"))
	if err != nil {
		t.Skipf("SKIPPED: systemd does not run in a container here: %v\n%s", bootErr, console)
	}
	if bootErr != nil || !strings.Contains(string(log), "\nthe walk is complete\n") {
		t.Errorf("%v\n%s", bootErr, log)
	}
}

// container mounts a root that is this machine's, with what is written there in memory.
func container(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "packagetest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mount := func(args ...string) {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: a layer above the root cannot be mounted here: %v: %s", err, out)
		}
		at := args[len(args)-1]
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", at).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	mount("-t", "tmpfs", "-o", "size=2g", "tmpfs", dir)
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil { //nolint:gosec // it is a root directory
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	mount("-t", "overlay", "-o", "lowerdir=/,upperdir="+dir+"/upper,workdir="+dir+"/work", "overlay", root)
	return root
}
