package walstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

const moveDirEnv = "HOLDFAST_TEST_MOVE_DIR"

// mover is the process that TestKillWhileMoving kills: it appends to the log in dir, each
// entry printed once it is stored, and moves it to the other kind again and again.
func mover(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	f, err := Open(context.Background(), options(dir))
	for kind := 0; ; kind++ {
		if err != nil {
			fail(err)
		}
		l := raftguard.NewChecksumStore(f)
		last, err2 := l.LastIndex()
		if err2 != nil {
			fail(err2)
		}
		for range 5 {
			last++
			if err := l.StoreLog(entry(last, 1500)); err != nil {
				fail(err)
			}
			fmt.Println(last)
		}
		if first, _ := l.FirstIndex(); last-first > 60 {
			if err := l.DeleteRange(first, last-40); err != nil {
				fail(err)
			}
		}
		f, err = Move(context.Background(), options(dir), f, Kinds()[kind%2])
	}
}

// A process that moves its log between both places is killed again and again: the log is
// whole in one of them every time.
func TestKillWhileMoving(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 15
	}
	dir, random := t.TempDir(), rand.New(rand.NewPCG(4, 2))
	var stored uint64
	seen := map[string]int{}
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), moveDirEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, kill := bufio.NewScanner(out), 5+random.IntN(30)
		var timer *time.Timer
		for n := 0; lines.Scan(); n++ {
			if stored, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(err)
			}
			if n == kill { // in the middle of what comes next, which is often a move
				timer = time.AfterFunc(time.Duration(random.IntN(15_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		if timer == nil {
			t.Fatalf("round %d: the process ended by itself", round)
		}
		timer.Stop()
		if _, err := os.Stat(filepath.Join(dir, segmentsDir)); err == nil {
			seen["segments/"]++
		}
		l := open(t, dir)
		seen[KindOf(l.file)]++
		first, err := l.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		last, err := l.LastIndex()
		if err != nil || last < stored || last > stored+1 {
			t.Fatalf("round %d: the log ends at %d, and %d was stored: %v", round, last, stored, err)
		}
		if n := l.holds(t, first, last); n > 0 {
			t.Fatalf("round %d: %d damaged entries", round, n)
		}
		l.close(t)
	}
	t.Log(stored, seen)
	if seen[BoltDB] == 0 || seen[WAL] == 0 {
		t.Error("the test saw one kind only")
	}
}

// Each state that a crash between two steps of a move leaves.
func TestCrashBetweenTheStepsOfAMove(t *testing.T) {
	const last = 30
	filled := func(t *testing.T, dir string) log {
		l := open(t, dir)
		for range last {
			l.add(t, 1000)
		}
		return l
	}
	o := options
	t.Run("to segments, some entries copied", func(t *testing.T) {
		dir := t.TempDir()
		l := filled(t, dir)
		opt := o(dir)
		if _, err := opt.fillSegments(t.Context(), shortened{l.file, 10}); err != nil {
			t.Fatal(err)
		}
		l.close(t)
		l = open(t, dir)
		l.holds(t, 1, last)
		move(t, dir, l, WAL).holds(t, 1, last)
	})
	t.Run("to segments, all entries copied", func(t *testing.T) {
		dir := t.TempDir()
		l := filled(t, dir)
		opt := o(dir)
		if _, err := opt.fillSegments(t.Context(), l.file); err != nil {
			t.Fatal(err)
		}
		l.close(t)
		l = open(t, dir)
		if l.holds(t, 1, last); KindOf(l.file) != BoltDB {
			t.Fatal("not where it was")
		}
		if _, err := os.Stat(filepath.Join(dir, segmentsDir)); !errors.Is(err, os.ErrNotExist) {
			t.Error("the copy is still there")
		}
	})
	t.Run("to boltdb, some entries copied", func(t *testing.T) {
		dir := t.TempDir()
		l := move(t, dir, filled(t, dir), WAL)
		if err := copyEntries(t.Context(), shortened{l.file, 10}, l.file.(*Store).LogFile); err != nil {
			t.Fatal(err)
		}
		l.add(t, 10)
		l.close(t)
		l = open(t, dir)
		if l.holds(t, 1, last+1); KindOf(l.file) != WAL {
			t.Fatal("not where it was")
		}
		if n, err := l.file.(*Store).LogFile.LastIndex(); err != nil || n != 0 {
			t.Errorf("the copy is still there, up to %d: %v", n, err)
		}
		move(t, dir, l, BoltDB).holds(t, 1, last+1)
	})
	t.Run("to boltdb, the segments are there", func(t *testing.T) {
		dir, copied := t.TempDir(), t.TempDir()
		l := move(t, dir, filled(t, dir), WAL)
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, segmentsDir))); err != nil {
			t.Fatal(err)
		}
		l = move(t, dir, l, BoltDB)
		l.add(t, 10)
		l.close(t)
		if err := os.CopyFS(filepath.Join(dir, segmentsDir), os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
		open(t, dir).holds(t, 1, last+1)
	})
}

// shortened is a log that ends early.
type shortened struct {
	raftguard.LogFile
	last uint64
}

func (s shortened) LastIndex() (uint64, error) { return s.last, nil }

// A log with a damaged entry is not moved, and stays usable.
func TestDamagedLogIsNotMoved(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	l.add(t, 10, 20, 30)
	bolt := l.file.(*raftboltdb.BoltStore)
	var e raft.Log
	if err := bolt.GetLog(2, &e); err != nil {
		t.Fatal(err)
	}
	e.Data[0] ^= 1
	if err := bolt.StoreLog(&e); err != nil {
		t.Fatal(err)
	}
	_, err := Move(t.Context(), options(dir), l.file, WAL)
	wantCode(t, err, conf.CodeCorrupt)
	if n := open(t, dir).holds(t, 1, 3); n != 1 {
		t.Errorf("%d damaged entries", n)
	}
}

// A burst leaves a log file of mostly free pages. The next start makes it small.
func TestFileIsCompacted(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	for range 60 {
		l.add(t, 200_000)
	}
	if err := l.DeleteRange(1, 55); err != nil {
		t.Fatal(err)
	}
	l.close(t)
	path := filepath.Join(dir, FileName)
	before := len(read(t, path))
	write(t, path+".compact", []byte("what a crash has left"))
	l = open(t, dir)
	l.holds(t, 56, 60)
	after := len(read(t, path))
	t.Logf("%d bytes, then %d", before, after)
	if before < 10<<20 || after > 3<<20 {
		t.Errorf("%d bytes, then %d", before, after)
	}
	if _, err := os.Stat(path + ".compact"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a part of another start is still there")
	}
	l.add(t, 100)
	l.close(t)
	open(t, dir).holds(t, 56, 61)
}
