package lkg

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// JournalPath is the path of the journal beside the file: config.lkg.journal for
// config.lkg.json.
func JournalPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".journal"
}

// The journal has one line for each record: the length of the payload as eight hex
// digits, the payload (canonical JSON), and the hex HMAC-SHA256 over the HMAC of the
// record before it and the payload, with one space between them. The first payload
// names the signature of the base, which is the file that the journal continues.
const (
	journalFormat = 1
	lengthDigits  = 8
	macDigits     = 64
	frameSize     = lengthDigits + 1 + 1 + macDigits + 1
	// minOutgrown is the size below which a journal is never replaced by a new base.
	minOutgrown = 256 << 10
)

// journalStart is what the HMAC of the first record covers before its payload.
var journalStart = []byte("config.lkg.journal\n")

// mark is where changes are in a journal: those that lead from the state at index
// prev to that at index.
type mark struct {
	prev, index uint64
	off         int64
	mac         []byte // of the record before it
}

// journal appends changes behind a base. Its methods may be called on any goroutine;
// those that say so need the caller to hold Writer.writing.
type journal struct {
	path string

	mu       sync.Mutex
	base     string // signature of the base; empty: there is none that can be continued
	next     string // signature of the base that is about to take its place
	epoch    string // of the base: indexes of two epochs do not compare
	index    uint64 // of the base
	key      []byte
	f        *os.File // nil: no record yet
	mac      []byte   // of the last record
	size     int64
	marks    []mark
	unsynced bool  // there are records that a loss of power would take
	named    bool  // the name in the directory is durable
	limit    int64 // size at which a new base is due
	foreign  bool  // what is at path belongs to another base
}

// continueFrom goes on behind what Load has read.
func (j *journal) continueFrom(l *Loaded, epoch string, key []byte) {
	j.base, j.epoch, j.index, j.key, j.limit = l.base, epoch, l.baseIndex, key, outgrown(l.baseSize)
	j.foreign = l.foreign
	if l.good > 0 {
		j.mac, j.size, j.marks, j.key = l.mac, l.good, l.marks, l.key
		j.named = true
	}
}

func outgrown(baseSize int64) int64 { return max(minOutgrown, baseSize) }

// append writes the records that lead from the state at prev to that at index. It
// needs no sync to survive the end of the process.
func (j *journal) append(epoch string, prev, index uint64, recs []*conf.Record, staged map[string]*Staged, at time.Time) (ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.base == "" || j.epoch != epoch {
		return false, nil
	}
	if len(recs) > 0 {
		payload, err := encodeChange(epoch, index, recs, staged, at)
		if err != nil {
			return false, err
		}
		if err := j.open(); err != nil {
			return false, err
		}
		j.note(prev, index, true)
		if err := j.write(payload); err != nil {
			j.marks = j.marks[:len(j.marks)-1]
			return false, err
		}
	} else {
		j.note(prev, index, false)
	}
	return true, nil
}

// due reports whether the journal has outgrown its base.
func (j *journal) due() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size > 0 && j.size >= j.limit
}

// holds reports whether there is a base to continue and all records have reached the disk.
func (j *journal) holds() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.base != "" && !j.unsynced
}

// note keeps where a change is. Changes without a record extend the one before, unless
// that is one of this agent alone, which has the index of what it changes.
func (j *journal) note(prev, index uint64, record bool) {
	if last := len(j.marks) - 1; !record && last >= 0 && j.marks[last].index >= prev && j.marks[last].prev < j.marks[last].index {
		j.marks[last].index = max(j.marks[last].index, index)
		return
	}
	j.marks = append(j.marks, mark{prev, index, j.size, j.mac})
}

// open opens the journal, cuts what is behind its last good record, and begins it
// when it is new.
func (j *journal) open() error {
	if j.f != nil {
		return nil
	}
	flags := os.O_RDWR | os.O_CREATE
	if j.size == 0 {
		j.setAside()
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(j.path, flags, 0o600)
	if err != nil {
		return writeError(j.path, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() < j.size {
		err = conf.Errorf(conf.CodeCorrupt, "it was changed by another process")
	} else if err == nil && info.Size() > j.size {
		err = f.Truncate(j.size)
	}
	if err != nil {
		_ = f.Close()
		j.drop()
		return writeError(j.path, err)
	}
	j.f = f
	if j.size == 0 {
		j.named, j.mac = false, nil
		err := j.write(headPayload(j.base, j.index))
		if err == nil && j.next != "" {
			err = j.write(anchorPayload(j.next))
		}
		if err != nil {
			j.drop()
			return err
		}
	}
	return nil
}

// setAside keeps a journal that belongs to another base for a person to look at.
func (j *journal) setAside() {
	if j.foreign {
		_ = os.Rename(j.path, j.path+".aside")
		j.foreign = false
	}
}

func headPayload(base string, index uint64) []byte {
	return fmt.Appendf(nil, `{"base":%q,"format":%d,"index":%d}`, base, journalFormat, index)
}

func anchorPayload(base string) []byte { return fmt.Appendf(nil, `{"anchor":%q}`, base) }

// write appends one record, whole or not at all.
func (j *journal) write(payload []byte) error {
	line, mac := frame(j.key, j.mac, payload)
	n, err := j.f.WriteAt(line, j.size)
	if err != nil {
		if n > 0 && j.f.Truncate(j.size) != nil {
			j.drop() // Run writes a base, which begins another journal
		}
		return writeError(j.path, err)
	}
	j.size, j.mac, j.unsynced = j.size+int64(len(line)), mac, true
	return nil
}

// frame is the line of a record, and its HMAC. prev is nil for the first.
func frame(key, prev, payload []byte) (line, mac []byte) {
	mac = chain(key, prev, payload)
	line = make([]byte, 0, len(payload)+frameSize)
	line = fmt.Appendf(line, "%08x ", len(payload))
	line = append(append(line, payload...), ' ')
	line = hex.AppendEncode(line, mac)
	return append(line, '\n'), mac
}

func chain(key, prev, payload []byte) []byte {
	h := seal.NewMAC(key)
	if prev == nil {
		prev = journalStart
	}
	h.Write(prev)
	h.Write(payload)
	return h.Sum(nil)
}

// drop ends the journal: nothing is appended until there is a new base. The caller
// holds mu.
func (j *journal) drop() {
	if j.f != nil {
		_ = j.f.Close()
	}
	j.f, j.base, j.next, j.mac, j.size, j.marks, j.unsynced = nil, "", "", nil, 0, nil, false
}

// check reports whether the file at path is still the one that records go to.
func (j *journal) check() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return true
	}
	now, err := os.Stat(j.path)
	if err == nil {
		var was fs.FileInfo
		if was, err = j.f.Stat(); err == nil && os.SameFile(was, now) && now.Size() == j.size {
			return true
		}
	}
	j.drop()
	return false
}

// abandon is drop for a base that another process has removed or changed.
func (j *journal) abandon() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop()
}

// sync makes the records durable. The caller holds Writer.writing.
func (j *journal) sync() error {
	j.mu.Lock()
	f, named, was := j.f, j.named, j.unsynced
	j.unsynced = false
	j.mu.Unlock()
	if f == nil || !was {
		return nil
	}
	err := f.Sync()
	if err == nil && !named {
		err = durable.SyncDir(filepath.Dir(j.path))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		// What was not written now may be lost without another word: only a base heals that.
		if !errors.Is(err, os.ErrClosed) {
			j.drop()
		}
		return writeError(j.path, err)
	}
	j.named = true
	return nil
}

// anchor names the base that is about to take the place of this one, so that the
// records behind it count with either. The caller holds Writer.writing.
func (j *journal) anchor(base string) error {
	j.mu.Lock()
	j.next = base
	if j.base == "" || j.size == 0 {
		j.mu.Unlock()
		return nil
	}
	err := j.open()
	if err == nil {
		err = j.write(anchorPayload(base))
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return j.sync()
}

// begin goes on behind a new base that has its name already: with an empty journal, or
// one that has the records above the base's index. It returns the index of base and
// journal. When it fails the old journal stays, whose anchor names the new base. The caller holds
// Writer.writing.
func (j *journal) begin(base, epoch string, index uint64, baseSize int64, key []byte) (through uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var kept []mark
	if epoch == j.epoch {
		kept = j.above(index)
	}
	through = index
	for _, m := range kept {
		if m.prev > through {
			break
		}
		through = max(through, m.index)
	}
	j.limit = j.size + outgrown(baseSize)
	switch {
	case j.size == 0:
		j.setAside()
		fallthrough
	case len(kept) == 0 || kept[0].off == j.size:
		if err = os.Remove(j.path); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	default:
		if err = j.rewrite(base, index, key, kept); err == nil {
			j.epoch, j.limit, j.next = epoch, outgrown(baseSize), ""
		}
		return through, err
	}
	if err != nil {
		return through, writeError(j.path, err)
	}
	if j.f != nil {
		_ = j.f.Close()
	}
	j.f, j.mac, j.size, j.unsynced = nil, nil, 0, false
	j.base, j.next, j.epoch, j.index, j.key, j.limit = base, "", epoch, index, key, outgrown(baseSize)
	j.marks = nil
	for _, m := range kept {
		j.marks = append(j.marks, mark{prev: m.prev, index: m.index})
	}
	return through, nil
}

// above are the marks of what is newer than index. What this agent changed alone at that
// index may not be in a base of it.
func (j *journal) above(index uint64) []mark {
	for i, m := range j.marks {
		if m.index > index || m.index == index && m.prev == index {
			return slices.Clone(j.marks[i:])
		}
	}
	return nil
}

// rewrite replaces the journal by one that begins from base and holds what is at kept.
// Those records are few: they came while the base was being written.
func (j *journal) rewrite(base string, index uint64, key []byte, kept []mark) error {
	if err := j.open(); err != nil {
		return err
	}
	old := make([]byte, j.size-kept[0].off)
	if _, err := j.f.ReadAt(old, kept[0].off); err != nil && !errors.Is(err, io.EOF) {
		return writeError(j.path, err)
	}
	line, mac := frame(key, nil, headPayload(base, index))
	next, marks := bytes.NewBuffer(line), make([]mark, 0, len(kept))
	start, was := kept[0].off, kept[0].mac
	for off := 0; off < len(old); {
		payload, size, sum := cutRecord(old[off:], j.key, was)
		if sum == nil {
			return conf.Errorf(conf.CodeCorrupt, "%s was changed by another process", j.path)
		}
		for ; len(kept) > 0 && kept[0].off == start+int64(off); kept = kept[1:] {
			marks = append(marks, mark{kept[0].prev, kept[0].index, int64(next.Len()), mac})
		}
		if !bytes.HasPrefix(payload, []byte(anchorHead)) && !bytes.HasPrefix(payload, []byte(headHead)) {
			line, mac = frame(key, mac, payload)
			next.Write(line)
		}
		off, was = off+size, sum
	}
	for _, m := range kept {
		marks = append(marks, mark{m.prev, m.index, int64(next.Len()), mac})
	}
	if _, err := durable.Replace(j.path, 0o600, func(f *os.File) error {
		_, err := f.Write(next.Bytes())
		return err
	}); err != nil {
		return writeError(j.path, err)
	}
	f, err := os.OpenFile(j.path, os.O_RDWR, 0)
	_ = j.f.Close()
	if err != nil {
		j.f = nil
		j.drop()
		return writeError(j.path, err)
	}
	j.base, j.index, j.key, j.f, j.mac, j.size, j.marks = base, index, key, f, mac, int64(next.Len()), marks
	j.unsynced, j.named = false, true
	return nil
}
