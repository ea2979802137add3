package replication

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/walstore"
)

// logFiles are the files of the log of a closed node, and how many bytes of each are used.
func logFiles(tb testing.TB, dir string) (used map[string]int64) {
	tb.Helper()
	used = map[string]int64{}
	names, err := filepath.Glob(filepath.Join(dir, "raft", "segments", "*.wal"))
	if err != nil {
		tb.Fatal(err)
	}
	if (len(names) > 0) != (logUnderTest() == walstore.WAL) {
		tb.Fatalf("segments %q of a log in %s", names, logUnderTest())
	}
	for _, name := range append(names, filepath.Join(dir, "raft", "raft.db")) {
		data, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			tb.Fatal(err)
		}
		used[rel] = int64(len(data))
		if strings.HasSuffix(name, ".wal") {
			used[rel] = int64(len(bytes.TrimRight(data, "\x00")))
		}
	}
	return used
}

// TestFlipsInTheLogsFile flips one bit of the log's files at a time. The log is either
// rejected, or the store that is rebuilt from it is correct; nothing panics.
func TestFlipsInTheLogsFile(t *testing.T) {
	const flips, versions = 100, 40
	template := t.TempDir()
	n := fresh(t, template, nil)
	n.write(t, "router", 1, versions)
	digest := n.st.Digest()
	n.close(t)
	used := logFiles(t, template)
	files := slices.Sorted(maps.Keys(used))
	rnd := rand.New(rand.NewPCG(7, 11))
	refused := 0
	for i := range flips {
		file := files[i/2%len(files)]
		at := rnd.Int64N(used[file])
		t.Run(fmt.Sprintf("%d byte %d of %s", i, at, file), func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, template, dir)
			flip(t, filepath.Join(dir, file), at)
			keep := i%2 == 0 // half of them with the store, half without
			if !keep {
				removeStore(t, dir)
			}
			n, err := tryStart(t, dir, nil)
			if err != nil {
				wantCode(t, err, conf.CodeCorrupt)
				refused++
				return
			}
			n.lead(t)
			switch {
			case keep:
				if n.st.Digest() != digest {
					t.Fatal("the store changed")
				}
				n.write(t, "router", versions+1, versions+1)
			default:
				if err := n.Barrier(t.Context()); err != nil {
					t.Fatal(err)
				}
				v := version(t, n.st, "router")
				// Without the store the last transaction of the file cannot be verified: a
				// flip in its newest meta page reverts it, as a torn write would.
				if v < versions-1 {
					t.Fatalf("version %d, want %d", v, versions)
				}
			}
			if err := n.Err(); err != nil {
				t.Fatal(err)
			}
			n.close(t)
		})
	}
	if refused == 0 || refused == flips {
		t.Fatalf("%d of %d flips were refused: the test proves nothing", refused, flips)
	}
	t.Logf("%d of %d flips were refused, the rest did no harm", refused, flips)
}

// TestTruncatedLogsFile truncates the log's files at every page.
func TestTruncatedLogsFile(t *testing.T) {
	template := t.TempDir()
	n := fresh(t, template, nil)
	n.write(t, "router", 1, 5)
	n.close(t)
	for path, size := range logFiles(t, template) {
		for size = (size - 1) / 4096 * 4096; size >= 0; size -= 4096 {
			dir := t.TempDir()
			copyDir(t, template, dir)
			if err := os.Truncate(filepath.Join(dir, path), size); err != nil {
				t.Fatal(err)
			}
			if n, err := tryStart(t, dir, nil); err != nil {
				wantCode(t, err, conf.CodeCorrupt)
			} else {
				n.lead(t)
				wantVersion(t, n, "router", 5)
				n.close(t)
			}
		}
	}
}

// otherLogTests are the tests of what the log does when its files or its disk fail, when
// the process dies, and when log, snapshot and store differ.
const otherLogTests = "Flips|Truncated|Garbage|Kill|Crash|Log|Reseed|History|Term|Hole|Snapshot|Damage|Running|Recover|Faults|Disk|Halt|Entry|Bounded"

// TestWithTheOtherLog runs the tests of the log in another process, with the log in the
// place where it is not by default.
func TestWithTheOtherLog(t *testing.T) {
	if os.Getenv(logEnv) != "" {
		return // this is that process
	}
	for _, kind := range walstore.Kinds() {
		if kind == defaultLog {
			continue
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", otherLogTests, "-test.short="+strconv.FormatBool(testing.Short()))
		cmd.Env = append(os.Environ(), logEnv+"="+kind)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
}

func TestGarbageInsteadOfTheLogsFile(t *testing.T) {
	for name, content := range map[string][]byte{
		"text":  []byte("this is no database"),
		"zeros": make([]byte, 64<<10),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := fresh(t, dir, nil)
			n.write(t, "router", 1, 3)
			n.close(t)
			if err := os.WriteFile(filepath.Join(dir, "raft", "raft.db"), content, fs.FileMode(0o600)); err != nil {
				t.Fatal(err)
			}
			mustRecover(t, dir, nil).write(t, "router", 4, 4)
		})
	}
}
