package walstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// openWithoutRepair opens the segments in dir as raft-wal does it by itself.
func openWithoutRepair(dir string, state *committed) (*wal.WAL, error) {
	draft := &drafted{dir: filepath.Join(dir, segmentsDir)}
	var err error
	if draft.state, err = decodeState(state.state); err != nil {
		return nil, err
	}
	return wal.Open(draft.dir, wal.WithMetaStore(draft), wal.WithSegmentFiler(segment.NewFiler(draft.dir, files{})),
		wal.WithLogger(raftguard.NewLogger(discard)))
}

// A write that a crash has cut short, in any of its sectors, is dropped as a whole, and
// nothing else is. The next write goes on from there, and so does the one after a second
// crash that leaves parts of it over the first.
func TestWriteCutShort(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 5))
	for _, sizes := range [][]int{{40}, {300}, {600}, {2000}, {3000, 20, 700}, {900, 900, 900, 900}} {
		for _, before := range []int{0, 1, 2, 7} {
			dir := t.TempDir()
			l := inSegments(t, dir)
			for i := range before {
				l.add(t, 100+150*i)
			}
			if before == 0 { // the first append of a segment has its header
				l.close(t)
				l = open(t, dir)
			}
			old := read(t, newest(t, dir))
			l.add(t, sizes...)
			whole := read(t, newest(t, dir))
			l.close(t)
			for round := range 12 {
				torn, lost := append([]byte(nil), whole...), 0
				for at := 0; at < len(torn); at += sector {
					end := at + sector
					if bytes.Equal(old[at:end], whole[at:end]) {
						continue
					}
					if round == 0 || random.IntN(2) == 0 {
						copy(torn[at:end], old[at:end])
						lost++
					}
				}
				write(t, newest(t, dir), torn)
				l, err := tryOpen(t, dir)
				if err != nil {
					t.Fatalf("%d sectors of a write of %v after %d others are lost: %v", lost, sizes, before, err)
				}
				want := uint64(before)
				if lost == 0 {
					want += uint64(len(sizes))
				}
				if want == 0 {
					l.holds(t, 0, 0)
				} else if n := l.holds(t, 1, want); n > 0 {
					t.Fatalf("%d damaged entries", n)
				}
				l.add(t, 20)
				l.close(t)
				l = open(t, dir)
				l.holds(t, 1, want+1)
				l.close(t)
			}
		}
	}
}

// A flipped bit never makes the log shorter: it is refused, or the entry with the bit is
// known to be damaged.
func TestFlippedBit(t *testing.T) {
	dir := t.TempDir()
	l := inSegments(t, dir)
	for i := range 12 {
		l.add(t, 30+200*i)
	}
	const last = 14
	l.add(t, 50, 60)
	state := l.file.(*Store).state.MetaStore.(*committed)
	l.close(t)
	path := newest(t, dir)
	whole := read(t, path)
	used := len(bytes.TrimRight(whole, "\x00"))
	heads := map[int]bool{} // bytes of frame headers
	for at := fileHeader; ; {
		f, ok := readFrame(whole, at)
		if !ok {
			break
		}
		for i := range frameHeader {
			heads[at+i] = true
		}
		at = f.end
	}
	refused, damagedEntries, shorter := 0, 0, 0
	for at := range used + 64 {
		if at%61 != 0 && at >= fileHeader && !heads[at] {
			continue
		}
		bit := byte(1) << (at % 8)
		flipped := append([]byte(nil), whole...)
		flipped[at] ^= bit
		write(t, path, flipped)
		if bare, err := openWithoutRepair(dir, state); err == nil {
			if n, _ := bare.LastIndex(); n != last {
				shorter++
			}
			bare.Close()
		}
		write(t, path, flipped)
		l, err := tryOpen(t, dir)
		if err != nil {
			wantCode(t, err, conf.CodeCorrupt)
			refused++
			continue
		}
		damagedEntries += min(1, l.holds(t, 1, last))
		l.close(t)
	}
	t.Logf("%d flips refused, %d in an entry that is known to be damaged; without the guard %d logs ended early", refused, damagedEntries, shorter)
	if refused == 0 || damagedEntries == 0 || shorter == 0 {
		t.Error("the test proves nothing")
	}
}

// Flips in a full segment are found by the entries that they change, or when it is opened.
func TestFlippedBitInAFullSegment(t *testing.T) {
	dir := t.TempDir()
	l := inSegments(t, dir)
	const last = 40
	for range last {
		l.add(t, 1000)
	}
	l.close(t)
	names, err := filepath.Glob(filepath.Join(dir, segmentsDir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	whole := read(t, names[0])
	found := 0
	for at := 0; at < len(whole); at += 37 {
		flipped := append([]byte(nil), whole...)
		flipped[at] ^= 1 << (at % 8)
		write(t, names[0], flipped)
		l, err := tryOpen(t, dir)
		if err != nil {
			wantCode(t, err, conf.CodeCorrupt)
			found++
			continue
		}
		found += min(1, l.holds(t, 1, last))
		l.close(t)
	}
	if found < len(whole)/37/2 {
		t.Errorf("%d of %d flips were found", found, len(whole)/37)
	}
}

// A segment that is cut, empty or zero is damaged.
func TestSegmentCutOrReplaced(t *testing.T) {
	dir := t.TempDir()
	l := inSegments(t, dir)
	for range 5 {
		l.add(t, 500)
	}
	l.close(t)
	path := newest(t, dir)
	whole := read(t, path)
	for name, content := range map[string][]byte{
		"empty": {}, "half": whole[:len(whole)/2], "one byte short": whole[:len(whole)-1],
		"text": bytes.Repeat([]byte("not a log "), len(whole)/10+1),
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, content)
			_, err := tryOpen(t, dir)
			wantCode(t, err, conf.CodeCorrupt)
		})
	}
}

// Every prefix of bytes of a segment that a check reads is judged without a panic.
func FuzzCheck(f *testing.F) {
	dir := f.TempDir()
	l := inSegments(f, dir)
	l.add(f, 30)
	l.add(f, 700, 20)
	l.close(f)
	f.Add(read(f, newest(f, dir)))
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, data []byte) {
		if at, err := check(data, 0); err == nil && (at.end > len(data) || at.used > len(data)) {
			panic(fmt.Sprint(at))
		}
	})
}
