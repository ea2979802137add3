package replication

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/store"
)

const killDirEnv = "HOLDFAST_TEST_KILL_DIR"

// killedWriter is the process that TestKill kills: it opens the node in dir and
// writes versions of one service without end, each printed once it is acknowledged.
func killedWriter(dir string) {
	ctx := context.Background()
	fail := func(what string, err error) {
		fmt.Fprintln(os.Stderr, what, err)
		os.Exit(1)
	}
	st, err := store.Open(ctx, storeOptions(dir))
	if err != nil {
		fail("store", err)
	}
	trans, err := openTransport("127.0.0.1:0")
	if err != nil {
		fail("listen", err)
	}
	m, err := Open(ctx, Options{
		Dir: filepath.Join(dir, "raft"), NodeID: "n1", Transport: trans, FSM: st, LogStore: logUnderTest(),
		tuning: tuning{
			LockTimeout: 5 * time.Second, SnapshotThreshold: 20, TrailingLogs: 10, SnapshotInterval: 10 * time.Millisecond,
		},
	})
	if err != nil {
		fail("open", err)
	}
	for leading := range m.LeaderCh() {
		if leading {
			break
		}
	}
	if err := m.Barrier(ctx); err != nil {
		fail("barrier", err)
	}
	var v uint64
	if r, err := st.Queries.Record(ctx, "router"); err == nil && r != nil {
		v = r.Version
	} else if _, err := m.Propose(ctx, &command.Genesis{Epoch: testEpoch, At: testTime}); err != nil {
		fail("genesis", err)
	}
	for {
		v++
		r, err := m.Propose(ctx, edit("router", v))
		if err != nil {
			fail("propose", err)
		}
		if r.Err != nil {
			fail("refused", r.Err)
		}
		fmt.Println(v)
	}
}

// TestKill kills a writing process again and again: what it had acknowledged is
// there every time, and at the end log and store agree on one history.
func TestKill(t *testing.T) {
	const rounds = 20
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	var acknowledged uint64
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, before, kill := bufio.NewScanner(out), acknowledged, 1+rnd.IntN(40)
		for n := 0; lines.Scan(); n++ {
			v, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("round %d: %q", round, lines.Text())
			}
			// The write that was under way when the process died may be there or not.
			if n == 0 && v != before+1 && v != before+2 {
				t.Errorf("round %d: went on at version %d after %d was acknowledged", round, v, before)
			}
			acknowledged = v
			if n == kill {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		if acknowledged == before {
			t.Fatalf("round %d wrote nothing", round)
		}
	}
	n := start(t, dir, nil).lead(t)
	if got := version(t, n.st, "router"); got < acknowledged {
		t.Fatalf("version %d, but %d was acknowledged", got, acknowledged)
	}
	t.Logf("%d rounds, %d acknowledged writes", rounds, acknowledged)
}
