package upgrade

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
)

// oldMark is text that the first build with several new kinds of entries has brought: the
// old build is the one before it. It is found by its text, since a hash does not survive
// a rebase of the history.
const oldMark = "featureAnyKeys = 1 << 49"

// source is the tree of the old build, made once a run.
var source struct {
	once    sync.Once
	dir     string
	commit  string
	missing string // why there is no history to take it from
	err     error
}

// OldBuild is the agent as it was before oldMark.
func OldBuild(t testing.TB) string {
	t.Helper()
	source.once.Do(func() {
		source.commit, source.missing = oldCommit()
		if source.missing == "" {
			source.err = export(source.commit)
		}
	})
	switch {
	case source.missing != "":
		withoutHistory(t, source.missing)
	case source.err != nil:
		t.Fatal(source.err)
	}
	return testenv.BinaryOf(t, source.dir, "old", "./cmd/holdfast")
}

func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = testenv.Root()
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

// oldCommit is the parent of the commit that brought oldMark.
func oldCommit() (commit, missing string) {
	shallow, err := git("rev-parse", "--is-shallow-repository")
	if err != nil {
		return "", err.Error()
	}
	all, err := git("log", "--format=%H", "-S"+oldMark, "--", "replication/command/features.go")
	if err != nil {
		return "", err.Error()
	}
	hashes := strings.Fields(all)
	if len(hashes) == 0 {
		return "", "no commit has brought " + oldMark + "; shallow clone: " + shallow
	}
	commit, err = git("rev-parse", "--verify", hashes[len(hashes)-1]+"^")
	if err != nil {
		return "", "shallow clone: " + shallow + ": " + err.Error()
	}
	return commit, ""
}

// export writes the tree of a commit into a directory; TestMain removes it.
func export(commit string) error {
	dir, err := os.MkdirTemp("", "holdfast-old-")
	if err != nil {
		return err
	}
	source.dir = dir
	archive := filepath.Join(dir, "tree.tar")
	if _, err := git("archive", "--format=tar", "-o", archive, commit); err != nil {
		return err
	}
	if out, err := exec.Command("tar", "-C", dir, "-xf", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", commit, err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	code := testenv.Main(m)
	if source.dir != "" {
		_ = os.RemoveAll(source.dir)
	}
	os.Exit(code)
}

// withoutHistory skips the test, unless CI runs it and the history is there.
func withoutHistory(t testing.TB, why string) {
	t.Helper()
	if shallow, err := git("rev-parse", "--is-shallow-repository"); err == nil && shallow == "false" && os.Getenv("CI") != "" {
		t.Fatalf("the whole history is here, and it has no old build: %s", why)
	}
	t.Skipf("no rolling upgrade without the history of the repository: %s", why)
}
