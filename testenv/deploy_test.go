package testenv

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// imageDirs makes in dir what make image makes for the image, besides the binary.
func imageDirs(t *testing.T, dir string) {
	t.Helper()
	services := strings.Join(schemaNames(t), " ")
	cmd := exec.Command("make", "-f", filepath.Join(Root(), "Makefile"), "image-dirs", "SERVICES="+services)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make image-dirs: %v\n%s", err, out)
	}
}

func schemaNames(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(), "testenv", "schemas", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	return names
}

// composeFile is what a test reads of docker-compose.yml.
type composeFile struct {
	Services map[string]struct {
		Environment map[string]string `yaml:"environment"`
		Volumes     []string          `yaml:"volumes"`
		User        string            `yaml:"user"`
	} `yaml:"services"`
}

// TestImageRunsAsAUser holds the Dockerfile and the Compose file against each other, also
// where no Docker is: the image names a user, and each volume that an agent writes is
// mounted where the image has a directory of that user, which the volume takes its owner
// from. A sidecar mounts the token of its own service and no other.
func TestImageRunsAsAUser(t *testing.T) {
	t.Parallel()
	dockerfile := map[string]int{} // line by line
	f, err := os.Open(filepath.Join(Root(), "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		dockerfile[lines.Text()] = len(dockerfile) + 1
	}
	const copied, user, volume = "COPY --chown=65532:65532 bin/image/ /", "USER 65532:65532", "VOLUME /data"
	if dockerfile[copied] == 0 || dockerfile[user] == 0 || dockerfile[volume] < dockerfile[copied] {
		t.Errorf("the Dockerfile needs %q before %q, and %q", copied, volume, user)
	}
	ignored, err := os.ReadFile(filepath.Join(Root(), ".dockerignore"))
	if err != nil || !strings.Contains(string(ignored), "!bin/image\n") {
		t.Errorf("the build does not get bin/image: %v %s", err, ignored)
	}

	dir := t.TempDir()
	imageDirs(t, dir)
	data, err := os.ReadFile(filepath.Join(Root(), "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	writable, tokens := 0, map[string][]string{}
	mount := regexp.MustCompile(`^(?:\$\{[^}]*\}|[^:$]*):(/[^:]*)(:ro)?$`)
	for name, s := range file.Services {
		if s.User != "" {
			t.Errorf("%s runs as the user %q", name, s.User)
		}
		for _, v := range s.Volumes {
			m := mount.FindStringSubmatch(v)
			if m == nil {
				t.Fatalf("%s: a volume that this test does not read: %q", name, v)
			}
			if strings.HasPrefix(m[1], "/tokens/sidecar") {
				tokens[m[1]] = append(tokens[m[1]], name)
			}
			if m[2] != "" || strings.HasPrefix(v, "./") {
				continue
			}
			writable++
			if fi, err := os.Stat(filepath.Join(dir, "bin/image", m[1])); err != nil || fi.Mode().Perm() != 0o700 {
				t.Errorf("%s writes %s, which the image does not have with the mode 0700: %v %v", name, m[1], fi, err)
			}
		}
		if service := s.Environment["CONFIG_SERVICE_NAME"]; service != "" && s.Environment["CONFIG_JOIN_TOKEN_FILE"] != "/tokens/sidecar/"+service+"/join-token" {
			t.Errorf("%s joins with %q, not with the token of its service", name, s.Environment["CONFIG_JOIN_TOKEN_FILE"])
		}
	}
	if writable < 8 || len(tokens) != 2 {
		t.Errorf("%d volumes are written, %d hold tokens", writable, len(tokens))
	}
	for path, by := range tokens {
		if len(by) != 2 || path == "/tokens/sidecar" {
			t.Errorf("%s is mounted by %v, not by server-1 and one sidecar", path, by)
		}
	}
	if path := file.Services["server-1"].Environment["CONFIG_SIDECAR_TOKEN_PATH"]; path != "/tokens/sidecar/{service}/join-token" {
		t.Errorf("server-1 writes the tokens of sidecars to %q", path)
	}
}

// TestTokenOfEachSidecar: the founder writes a token for each service that has a directory.
// A sidecar that joins by it stays healthy and serves the first secret of its service; one
// that joins by a token for any service does not, and that is why there are two kinds.
func TestTokenOfEachSidecar(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, service := range []string{"stt-worker", "ui-web", "no service"} {
		if err := os.Mkdir(filepath.Join(dir, service), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := NewCluster(t)
	first := c.NewNode(conf.MemberServer, "CONFIG_SIDECAR_TOKEN_PATH="+filepath.Join(dir, "{service}", "join-token"))
	first.Start()
	first.AwaitUp()
	join := func(token string) *Node {
		n := c.NewNode(conf.MemberSidecar, "CONFIG_SERVICE_NAME=stt-worker", "CONFIG_JOIN="+first.Addr, "CONFIG_JOIN_TOKEN_FILE="+token)
		n.Start()
		n.AwaitUp()
		return n
	}
	file := filepath.Join(dir, "stt-worker", "join-token")
	own := join(file)
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	generic := filepath.Join(t.TempDir(), "any")
	_, token, _ := strings.Cut(first.TokenCommand("--role", "sidecar"), "--token ")
	if err := os.WriteFile(generic, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := join(generic)

	json := "Content-Type: application/json"
	first.Try("PUT", "/api/config/schemas/stt-worker", `{"type":"object","properties":{"key":{"type":"string","x-secret":true,"x-secret-source":"database"}}}`, json).OK(t)
	first.Try("PUT", "/api/config/services/stt-worker/secrets/key", `{"value":"open sesame","reason":"test"}`, json).OK(t)
	Await(t, "the sidecar with the token of its service to serve the secret", func() bool {
		secret, err := os.ReadFile(own.Path("local-token"))
		if err != nil {
			return false
		}
		r := Do("GET", "http://"+own.LocalAddr+"/v1/config/stt-worker/key?raw", "", "X-Holdfast-Token: "+strings.TrimSpace(string(secret)))
		return r.Status == http.StatusOK && string(r.Body) == "open sesame"
	})
	if h, ok := own.Health(); !ok || !h.OK {
		t.Errorf("health with the token of its service: %s", jsonText(h))
	}
	Await(t, "the sidecar with a token for any service to say what it lacks", func() bool { h, ok := other.Health(); return ok && !h.OK && h.Err != nil })
	for _, name := range []string{"ui-web", "no service"} {
		_, err := os.Stat(filepath.Join(dir, name, "join-token"))
		if (err == nil) != (name == "ui-web") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
