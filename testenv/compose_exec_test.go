package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// standIn is what stands in for the program of the example in an image without Python: it
// reads the same variables, once.
const standIn = `package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	fmt.Println("hello", os.Getenv("NAME"), "as process", os.Getppid(), "'s child, with", len(os.Args), "arguments")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
}
`

// TestComposeExec brings the example of docs/examples/exec up: the static binary is the
// entrypoint of an image that has no other file of Holdfast, and process 1 of its container.
func TestComposeExec(t *testing.T) {
	t.Parallel()
	tool := composeTools(t)[0]
	image := scratchImage(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": standIn, "go.mod": "module standin\n\ngo 1.22\n", "Dockerfile": "FROM scratch\nCOPY python3 /usr/bin/python3\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-o", "python3", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the stand-in: %v\n%s", err, out)
	}
	base, service := image+"-base", image+"-service"
	if out, err := docker(t, "build", "-q", "-t", base, dir); err != nil {
		t.Fatalf("building the image of the stand-in: %v\n%s", err, out)
	}
	project := fmt.Sprintf("holdfast-exec-%d", os.Getpid())
	compose := func(args ...string) (string, error) {
		file := filepath.Join(Root(), "docs", "examples", "exec", "docker-compose.yml")
		args = append(append(append([]string{}, tool[1:]...), "-p", project, "-f", file), args...)
		env := []string{"HOLDFAST_IMAGE=" + image, "BASE_IMAGE=" + base, "SERVICE_IMAGE=" + service, "DOCKER_CLI_HINTS=false", "DOCKER_BUILDKIT=0"}
		return command(t, env, tool[0], args...)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := compose("logs", "--no-color", "--tail", "15")
			t.Logf("the containers printed at their end:\n%s", out)
		}
		if out, err := compose("down", "-v", "--remove-orphans", "-t", "1"); err != nil {
			t.Errorf("compose down: %v\n%s", err, out)
		}
		for _, i := range []string{service, base} {
			if out, err := docker(t, "rmi", i); err != nil {
				t.Errorf("removing the image: %v\n%s", err, out)
			}
		}
	})
	if out, err := compose("up", "-d", "--build"); err != nil {
		t.Fatalf("compose up: %v\n%s", err, out)
	}
	id := map[string]string{}
	for _, s := range []string{"agent", "service"} {
		out, err := compose("ps", "-q", s)
		if id[s] = strings.TrimSpace(out); err != nil || id[s] == "" {
			t.Fatalf("no container of %s: %v %s", s, err, out)
		}
	}
	logs := func(text string) func() bool {
		return func() bool {
			out, _ := docker(t, "logs", id["service"])
			return strings.Contains(out, text)
		}
	}
	set := func(name string) {
		t.Helper()
		Await(t, "the agent to take a change", func() bool {
			_, err := docker(t, "exec", id["agent"], "holdfast", "set", "greeter", "name="+name)
			return err == nil
		})
		Await(t, "the program to have the name "+name, logs("hello "+name+" as process 1 's child, with 2 arguments"))
	}
	Await(t, "the program to start", logs("hello world as process 1 's child"))
	set("moon")
	if out, err := docker(t, "stop", "-t", "5", id["agent"]); err != nil {
		t.Fatalf("stopping the agent: %v %s", err, out)
	}
	if out, err := docker(t, "start", id["agent"]); err != nil {
		t.Fatalf("starting the agent: %v %s", err, out)
	}
	set("sun")
	out, err := docker(t, "inspect", "-f", "{{.RestartCount}}", id["service"])
	if n, perr := strconv.Atoi(strings.TrimSpace(out)); err != nil || perr != nil || n != 0 {
		t.Errorf("the container was restarted %s times: %v", out, err)
	}
	if out, err := docker(t, "stop", "-t", "60", id["service"]); err != nil {
		t.Fatalf("stopping the service: %v %s", err, out)
	}
	if out, err := docker(t, "inspect", "-f", "{{.State.ExitCode}}", id["service"]); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("the container ended with %s, want 0, the program's: %v", strings.TrimSpace(out), err)
	}
}
