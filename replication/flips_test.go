package replication

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestFlipsInTheLogsFile flips one bit of raft.db at a time. The log is either
// rejected, or the store that is rebuilt from it is correct; nothing panics.
func TestFlipsInTheLogsFile(t *testing.T) {
	const flips, versions = 100, 40
	template := t.TempDir()
	n := fresh(t, template, nil)
	n.write(t, "router", 1, versions)
	digest := n.st.Digest()
	n.close(t)
	info, err := os.Stat(filepath.Join(template, "raft", "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 11))
	refused := 0
	for i := range flips {
		at := rnd.Int64N(info.Size())
		t.Run(fmt.Sprintf("%d byte %d", i, at), func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, template, dir)
			flip(t, filepath.Join(dir, "raft", "raft.db"), at)
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

// TestTruncatedLogsFile truncates raft.db at every page.
func TestTruncatedLogsFile(t *testing.T) {
	template := t.TempDir()
	n := fresh(t, template, nil)
	n.write(t, "router", 1, 5)
	n.close(t)
	path := filepath.Join("raft", "raft.db")
	info, err := os.Stat(filepath.Join(template, path))
	if err != nil {
		t.Fatal(err)
	}
	for size := info.Size() - 4096; size > 0; size -= 4096 {
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
