package walstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// Layout of a segment: a header, then frames. An append is the frames of its entries, the
// index in the append that fills the segment, and a commit frame with the CRC32C of all of
// them since the commit before. Everything after the last append is zero.
const (
	fileHeader  = 32
	frameHeader = 8   // type u8, zero u24, length or CRC u32 little endian
	sector      = 512 // is written as a whole or not at all
	maxEntry    = 64 << 20
	align       = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// found is what raft-wal will find in the newest segment.
type found struct {
	end     int    // of the last append
	entries uint64 // up to there
	index   int    // offset of the index, 0 when the segment is not full
	used    int    // end of what is not zero
}

// repair verifies the newest segment of the state in meta. It clears what a crash has left
// of a write that was never acknowledged, and begins the next segment if the crash came
// before that. Anything else that does not fit is damage: conf.CodeCorrupt.
func repair(dir string, meta types.MetaStore) error {
	s, err := meta.Load(dir)
	if err != nil || len(s.Segments) == 0 {
		return err
	}
	tail := &s.Segments[len(s.Segments)-1]
	if !tail.SealTime.IsZero() {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, segment.FileName(*tail)), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return raftguard.Corrupt("the newest segment of the log is missing: %w", err)
	}
	if err != nil {
		return raftguard.StorageError(err, "cannot open the log")
	}
	data, err := readAll(f)
	if err != nil {
		return first(raftguard.StorageError(err, "cannot read the log"), f.Close())
	}
	at, err := check(data, int(tail.SizeLimit))
	if err == nil && at.used > at.end {
		if _, err = f.WriteAt(make([]byte, at.used-at.end), int64(at.end)); err == nil {
			err = f.Sync()
		}
		if err != nil {
			err = raftguard.StorageError(err, "cannot write to the log")
		}
	}
	if err := first(err, f.Close()); err != nil {
		return err
	}
	if at.index == 0 {
		return nil
	}
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), tail.BaseIndex+at.entries-1, uint64(at.index)
	next := types.SegmentInfo{
		ID: s.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1,
		SizeLimit: tail.SizeLimit, Codec: tail.Codec, CreateTime: time.Now(),
	}
	s.NextSegmentID++
	s.Segments = append(s.Segments, next)
	return meta.CommitState(s)
}

// first is the first error, as it is: errors.Join hides its hint.
func first(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}

// frame is one frame of a segment.
type frame struct {
	at, end int
	kind    uint8
	value   uint32 // length, or CRC
}

func (f frame) payload(data []byte) []byte {
	return data[min(f.at+frameHeader, len(data)):min(f.at+frameHeader+int(f.value), len(data))]
}

// readFrame reads a frame as raft-wal does. It is not ok where raft-wal stops.
func readFrame(data []byte, at int) (f frame, ok bool) {
	if at+frameHeader > len(data) {
		return f, false
	}
	f = frame{at: at, end: at + frameHeader, kind: data[at], value: binary.LittleEndian.Uint32(data[at+4:])}
	switch f.kind {
	case segment.FrameEntry, segment.FrameIndex:
		if f.value > maxEntry {
			return f, false
		}
		f.end += (int(f.value) + align - 1) / align * align
		return f, true
	case segment.FrameCommit:
		return f, true
	}
	return f, false
}

// check finds the last append, and requires that nothing after it was acknowledged.
func check(data []byte, size int) (found, error) {
	if len(data) < size {
		return found{}, damaged(len(data), "the segment has %d bytes of %d", len(data), size)
	}
	type commit struct {
		found
		start int // of what its CRC covers
	}
	var last, before *commit
	now, start := found{}, 0
	for at := fileHeader; ; {
		f, ok := readFrame(data, at)
		if !ok || f.end > len(data) {
			break
		}
		at = f.end
		switch f.kind {
		case segment.FrameEntry:
			now.entries++
		case segment.FrameIndex:
			now.index = f.at + frameHeader
		case segment.FrameCommit:
			now.end = f.end
			before, last = last, &commit{found: now, start: start}
			start = f.end
		}
	}
	used := len(bytes.TrimRight(data, "\x00"))
	if last == nil {
		out := found{used: used}
		return out, judge(data, fileHeader, used)
	}
	last.used = used
	at := last.end - frameHeader
	if crc32.Checksum(data[last.start:at], castagnoli) == binary.LittleEndian.Uint32(data[at+4:]) {
		return last.found, judge(data, last.end, used)
	}
	// Either it was never acknowledged, and not all of it reached the disk, or it is damaged.
	if err := judge(data, max(last.start, fileHeader), used); err != nil {
		return found{}, err
	}
	if before == nil {
		return found{used: used}, nil
	}
	before.used = used
	return before.found, nil
}

// judge tells a write that a crash has cut short from damage. The one write that may be
// incomplete begins at from: of each sector of it the disk has all or nothing, and nothing
// follows it.
func judge(data []byte, from, used int) error {
	if used <= from {
		return nil
	}
	if end := commitAfter(data, from, used); end > 0 {
		switch {
		case used > end && len(bytes.TrimLeft(data[end:used], "\x00")) > 0:
			return damaged(from, "there are entries behind it")
		case !lacksSector(data, from, end-frameHeader):
			return damaged(from, "the write is complete, and its checksum differs")
		}
		return nil
	}
	for at := from; ; { // the end of the write is missing
		f, ok := readFrame(data, at)
		switch {
		case at >= used:
			return nil
		case !ok && isZero(data[at:min(at/sector*sector+sector, len(data))]):
			return nil // the sector is missing
		case !ok:
			return damaged(at, "no frame begins there")
		case (at+frameHeader)%sector != 0 && at+frameHeader < len(data) && data[at+frameHeader] == 0:
			return damaged(at, "an entry without a beginning")
		case f.kind == segment.FrameEntry && intact(f.payload(data)):
		case f.kind == segment.FrameEntry && f.end <= len(data) && !lacksSector(data, f.at, f.end):
			return damaged(at, "an entry's checksum differs")
		case f.end > used:
			return nil
		}
		at = f.end
	}
}

// commitAfter returns the end of the first commit frame from at on, 0 for none.
func commitAfter(data []byte, at, used int) int {
	for ; at < used && at+frameHeader <= len(data); at += align {
		if binary.LittleEndian.Uint32(data[at:]) == uint32(segment.FrameCommit) {
			return at + frameHeader
		}
	}
	return 0
}

// lacksSector reports whether a sector, or the part of one, between from and to is zero.
func lacksSector(data []byte, from, to int) bool {
	for at := from; at < to; {
		next := min(at/sector*sector+sector, to)
		if isZero(data[at:next]) {
			return true
		}
		at = next
	}
	return false
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// intact reports whether the payload of a frame is an entry with its checksum.
func intact(payload []byte) bool {
	var l raft.Log
	err := raftguard.RecoverPanic("decode", func() error { return (&wal.BinaryCodec{}).Decode(payload, &l) })
	return err == nil && raftguard.Intact(&l)
}

func damaged(at int, format string, args ...any) error {
	return raftguard.Corrupt("the newest segment of the log is damaged at byte %d: %s", at, fmt.Sprintf(format, args...))
}
