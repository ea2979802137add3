package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestCompose brings docker-compose.yml up with each version of Compose that is
// here, kills the leader's container between two writes, and reads everywhere.
func TestCompose(t *testing.T) {
	t.Parallel()
	tools := composeTools(t)
	image := scratchImage(t)
	for i, tool := range tools {
		t.Run(strings.Join(tool, " "), func(t *testing.T) {
			c := &compose{t: t, tool: tool, project: fmt.Sprintf("holdfast-test-%d-%d", os.Getpid(), i), ids: map[string]string{}}
			ports := FreePorts(t, 3)
			c.env = []string{"HOLDFAST_IMAGE=" + image, "DOCKER_CLI_HINTS=false", "BACKUP_TO=file:///backups"}
			for n, p := range ports {
				c.env = append(c.env, fmt.Sprintf("SERVER_%d_PORT=%d", n+1, p))
			}
			t.Cleanup(func() {
				if t.Failed() {
					out, _ := c.run("logs", "--no-color", "--tail", "15")
					t.Logf("the containers printed at their end:\n%s", out)
				}
				if out, err := c.run("down", "-v", "--remove-orphans", "-t", "1"); err != nil {
					t.Errorf("compose down: %v\n%s", err, out)
				}
			})
			c.story(ports)
		})
	}
}

var (
	composeServers  = []string{"server-1", "server-2", "server-3"}
	composeSidecars = []string{"stt-worker-agent", "tts-worker-agent"}
	composeAgents   = append(append([]string{}, composeServers...), composeSidecars...)
)

func (c *compose) story(ports []int) {
	t := c.t
	if out, err := c.run("up", "-d", "--no-build"); err != nil {
		t.Fatalf("compose up: %v\n%s", err, out)
	}
	for _, s := range append([]string{"stt-worker"}, composeAgents...) {
		out, err := c.run("ps", "-q", s)
		if c.ids[s] = strings.TrimSpace(out); err != nil || c.ids[s] == "" {
			t.Fatalf("no container of %s: %v %s", s, err, out)
		}
	}
	var st conf.ClusterStatus
	Await(t, "three voters and two sidecars", func() bool {
		st = c.status("server-1")
		return st.Quorum && st.Voters == 3 && reachableNodes(st) == 5
	})
	c.set("server-2", "0.6")
	c.everywhere(composeAgents, "0.6")
	Await(t, "the service to print the change", func() bool {
		out, _ := docker(t, "logs", c.ids["stt-worker"])
		return strings.Contains(out, "+ vad_threshold = 0.6")
	})
	Await(t, "the backup in the volume to be verified", func() bool {
		_, err := c.holdfast("server-2", "backup", "drill")
		return err == nil
	})
	Await(t, "the published port of server-3", func() bool {
		return Do("GET", "http://127.0.0.1:"+strconv.Itoa(ports[2])+"/api/config/health", "").Status == 200
	})

	leader := c.leader(st)
	if out, err := docker(t, "kill", c.ids[leader]); err != nil {
		t.Fatalf("killing %s: %v %s", leader, err, out)
	}
	var left, servers []string
	for _, a := range composeAgents {
		if a != leader {
			left = append(left, a)
		}
	}
	for _, s := range composeServers {
		if s != leader {
			servers = append(servers, s)
		}
	}
	for _, a := range left { // at once: no read waits for an election
		if v := c.get(a); v != "0.6" {
			t.Errorf("%s reads %q while there is no leader", a, v)
		}
	}
	c.set(servers[0], "0.7")
	c.everywhere(left, "0.7")

	if out, err := docker(t, "start", c.ids[leader]); err != nil {
		t.Fatalf("starting %s: %v %s", leader, err, out)
	}
	c.everywhere(composeAgents, "0.7")
	Await(t, "all five to be back", func() bool {
		st := c.status(servers[0])
		return st.Quorum && st.Voters == 3 && reachableNodes(st) == 5
	})
	c.agentCrashes()
	c.sidecarsAreNotServers()
}

// agentCrashes kills the process of a sidecar. Docker restarts it, and the service beside
// it hears of the next change.
func (c *compose) agentCrashes() {
	c.t.Helper()
	const agent, service = "stt-worker-agent", "stt-worker"
	out, err := docker(c.t, "inspect", "-f", "{{.State.Pid}}", c.ids[agent])
	pid, perr := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || perr != nil || pid <= 1 {
		c.t.Fatalf("the process of %s: %v %s", agent, err, out)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	Await(c.t, "Docker to start the agent again", func() bool {
		out, err := docker(c.t, "inspect", "-f", "{{.State.Running}} {{.State.Pid}}", c.ids[agent])
		return err == nil && strings.HasPrefix(out, "true ") && strings.TrimSpace(out) != "true "+strconv.Itoa(pid)
	})
	c.set("server-2", "0.8")
	Await(c.t, "the service to print the change", func() bool {
		out, _ := docker(c.t, "logs", c.ids[service])
		return strings.Contains(out, "vad_threshold = 0.8")
	})
}

// sidecarsAreNotServers looks into the containers of the sidecars: neither the keys
// of the cluster nor the token that would hand them out is there.
func (c *compose) sidecarsAreNotServers() {
	c.t.Helper()
	for _, s := range composeSidecars {
		dir := c.t.TempDir()
		for _, path := range []string{"/data/.env", "/tokens"} {
			if out, err := docker(c.t, "cp", c.ids[s]+":"+path, dir); err != nil {
				c.t.Fatalf("%s: %v %s", s, err, out)
			}
		}
		env, err := os.ReadFile(filepath.Join(dir, ".env"))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, name := range []string{"CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_MASTER_KEY_BASE64", "CONFIG_API_TOKENS"} {
			if strings.Contains(string(env), name+"=") {
				c.t.Errorf("%s holds %s", s, name)
			}
		}
		err = filepath.WalkDir(filepath.Join(dir, "tokens"), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.Contains(path, "server") {
				c.t.Errorf("%s can read %s", s, path)
			}
			if fi, ierr := os.Stat(path); ierr == nil && !d.IsDir() && fi.Mode().Perm() != 0o600 {
				c.t.Errorf("%s has the mode %v", path, fi.Mode())
			}
			return err
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// compose is one project of docker-compose.yml.
type compose struct {
	t       *testing.T
	tool    []string
	project string
	env     []string
	ids     map[string]string // container of each service
}

func (c *compose) run(args ...string) (string, error) {
	args = append(append(append([]string{}, c.tool[1:]...), "-p", c.project, "-f", filepath.Join(Root(), "docker-compose.yml")), args...)
	return command(c.t, c.env, c.tool[0], args...)
}

// holdfast runs the command line in the container of a service.
func (c *compose) holdfast(service string, args ...string) (string, error) {
	return docker(c.t, append([]string{"exec", c.ids[service], "holdfast"}, args...)...)
}

func (c *compose) status(service string) (st conf.ClusterStatus) {
	out, err := c.holdfast(service, "cluster", "status", "-o", "json")
	if err != nil || json.Unmarshal([]byte(out), &st) != nil {
		return conf.ClusterStatus{}
	}
	return st
}

func reachableNodes(st conf.ClusterStatus) (n int) {
	for _, node := range st.Nodes {
		if node.Reachable {
			n++
		}
	}
	return n
}

func (c *compose) leader(st conf.ClusterStatus) string {
	c.t.Helper()
	for _, n := range st.Nodes {
		if name, _, ok := strings.Cut(n.Addr, ":"); ok && n.NodeID == st.Leader {
			return name
		}
	}
	c.t.Fatalf("no leader in %+v", st)
	return ""
}

func (c *compose) get(service string) string {
	out, err := c.holdfast(service, "get", "stt-worker", "vad_threshold")
	if err != nil {
		return err.Error() + ": " + out
	}
	return strings.TrimSpace(out)
}

// set writes through a server, as soon as a leader takes it.
func (c *compose) set(service, value string) {
	c.t.Helper()
	var last string
	if !poll(Patience, func() bool {
		out, err := c.holdfast(service, "set", "stt-worker", "vad_threshold="+value, "--reason", "test")
		last = out
		return err == nil
	}) {
		c.t.Fatalf("%s takes no change: %s", service, last)
	}
}

func (c *compose) everywhere(services []string, want string) {
	c.t.Helper()
	for _, s := range services {
		Await(c.t, s+" to read "+want, func() bool { return c.get(s) == want })
	}
}

// composeTools are the versions of Compose on this machine. Without an engine that
// answers there is nothing to test with, and no way to install one: the test is
// skipped, aloud, under CI too. An engine without Compose is a mistake there.
func composeTools(t *testing.T) (tools [][]string) {
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("SKIPPED: docker-compose.yml is not tried out, since docker is not installed")
	}
	if out, err := docker(t, "info"); err != nil {
		t.Skipf("SKIPPED: docker-compose.yml is not tried out, since no Docker engine answers: %v\n%s", err, out)
	}
	if _, err := docker(t, "compose", "version"); err == nil {
		tools = append(tools, []string{"docker", "compose"})
	}
	if _, err := exec.LookPath("docker-compose"); err == nil {
		tools = append(tools, []string{"docker-compose"})
	}
	if tools == nil {
		Missing(t, "neither docker compose nor docker-compose is installed")
	}
	return tools
}

// scratchImage builds the image of the Dockerfile from the binary under test.
func scratchImage(t *testing.T) string {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := os.ReadFile(Binary(t, "./cmd/holdfast"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bin", "holdfast"), bin, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	imageDirs(t, dir)
	image := fmt.Sprintf("holdfast-test-%d-%s", os.Getpid(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
	if out, err := docker(t, "build", "-q", "-t", image, "-f", filepath.Join(Root(), "Dockerfile"), dir); err != nil {
		t.Fatalf("building the image: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := docker(t, "rmi", image); err != nil {
			t.Errorf("removing the image: %v\n%s", err, out)
		}
	})
	return image
}

func docker(t *testing.T, args ...string) (string, error) { return command(t, nil, "docker", args...) }

// command runs to its end, in cleanups too, and never endlessly.
func command(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(cleanEnv(), env...)
	out, err := cmd.Output()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		out = append(out, ee.Stderr...)
	}
	return string(out), err
}
