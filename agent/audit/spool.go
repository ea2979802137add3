package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	maxSpoolBytes = 16 << 20  // of rows that wait
	maxIdleBytes  = 64 << 10  // of a file without waiting lines, before it is truncated
	maxBatchBytes = 512 << 10 // of a batch of more than one line
	maxDeadBytes  = 1 << 20   // of delivered lines in a file with waiting ones
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// spool stores rows of the access log that are not in the Raft log yet, in one file.
// A line holds the rows of one add, with the id of their queue and a number, after its
// CRC32C. It is written with one call and not flushed: it survives the process, not
// the machine. sync is for when delivery takes long.
//
// A batch is one or more lines, sent under the number of the last one. Its limits are
// written before it is sent, so that a batch whose outcome is unknown is sent again
// unchanged, also by the next process, and counts once. Each process starts a queue of
// its own: after a lost tail, a number would otherwise mean two batches.
type spool struct {
	log    *slog.Logger
	alarms *alarm.Set
	source string
	limit  int64

	mu      sync.Mutex
	path    string
	f       *os.File // nil: the file cannot be used, lines wait in memory
	size    int64
	waiting []waiting
	bytes   int64
	rows    int
	seq     uint64
	dirty   bool           // something is not flushed
	sent    *command.Audit // the batch whose outcome is not known
	lines   int            // of waiting that sent consists of
	owed    *spoolLine     // a note of a delivery that could not be written yet
}

// waiting is a line in the file, or in memory when there is none.
type waiting struct {
	source string
	seq    uint64
	rows   int
	off    int64
	len    int
	held   []byte
	batch  uint64 // of an earlier process: the number of the batch that it was sent in
	alone  bool   // an earlier process may have sent it: it is a batch of its own
}

// spoolLine is a line of the file: rows; or a note that those of the numbers From to
// Seq are one batch; or a note that everything up to Seq was delivered.
type spoolLine struct {
	Source string        `json:"source"`
	Seq    uint64        `json:"seq"`
	Rows   []conf.Access `json:"rows,omitempty"`
	From   uint64        `json:"from,omitempty"`
	Done   bool          `json:"done,omitempty"`
}

// openSpool reads what an earlier process left. A file that cannot be used is
// logged; rows wait in memory then.
func openSpool(path string, log *slog.Logger) *spool {
	s := &spool{log: log, alarms: alarm.NewSet(log), source: uuid.NewString(), limit: maxSpoolBytes, path: path}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		s.f = f
		err = s.load()
	}
	if err != nil {
		alarm.SpoolUnusable.Report(log, "path", path, "err", err)
		s.drop()
		return s
	}
	alarm.SpoolUnusable.Over(log, "waiting", len(s.waiting)) // the process that raised it was an earlier one
	return s
}

func (s *spool) drop() {
	if s.f != nil {
		_ = s.f.Close()
	}
	s.f, s.waiting, s.bytes, s.size, s.rows = nil, nil, 0, 0, 0
}

func (s *spool) load() error {
	if err := s.f.Chmod(0o600); err != nil {
		return err
	}
	in := bufio.NewReader(s.f)
	done := map[string]uint64{}
	var batches []spoolLine
	var all []waiting
	bad := 0
	for off := int64(0); ; {
		raw, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(raw) == 0 {
			break
		}
		s.size = off + int64(len(raw))
		switch l, ok := parseSpoolLine(raw); {
		case !ok:
			bad++
		case l.Done:
			done[l.Source] = max(done[l.Source], l.Seq)
		case l.From > 0:
			batches = append(batches, l)
		default:
			all = append(all, waiting{source: l.Source, seq: l.Seq, rows: len(l.Rows), off: off, len: len(raw)})
		}
		off = s.size
	}
	loose := 0
	batches = slices.DeleteFunc(batches, func(b spoolLine) bool { return b.Seq <= done[b.Source] })
	for _, w := range all {
		if w.seq <= done[w.source] {
			continue
		}
		for _, b := range batches {
			if b.Source == w.source && b.From <= w.seq && w.seq <= b.Seq {
				w.batch = b.Seq
			}
		}
		// A batch of one line has no note, and after a crash of the machine a note can
		// be missing although its batch was sent.
		if w.batch == 0 && loose < maxBatch {
			w.alone = true
			loose++
		}
		s.hold(w)
	}
	if bad > 0 {
		alarm.SpoolDamaged.Report(s.log, "path", s.f.Name(), "lines", bad)
		// The next line must not become a part of the torn one.
		if _, err := s.f.WriteAt([]byte("\n"), s.size); err != nil {
			return err
		}
		s.size++
	}
	s.truncateIfEmpty()
	return nil
}

func (s *spool) hold(w waiting) {
	s.waiting = append(s.waiting, w)
	s.bytes += int64(w.len)
	s.rows += w.rows
}

func (s *spool) release(n int) {
	for _, w := range s.waiting[:n] {
		s.bytes -= int64(w.len)
		s.rows -= w.rows
	}
	s.waiting = s.waiting[n:]
}

func parseSpoolLine(raw []byte) (spoolLine, bool) {
	var l spoolLine
	body, ok := bytes.CutSuffix(raw, []byte("\n"))
	sum, text, found := bytes.Cut(body, []byte(" "))
	if !ok || !found || len(sum) != 8 {
		return l, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || crc32.Checksum(text, crcTable) != uint32(want) {
		return l, false
	}
	err = json.Unmarshal(text, &l)
	return l, err == nil && l.Source != "" && l.Seq > 0
}

func encodeSpoolLine(l spoolLine) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, crcTable), text), nil
}

// add appends rows. It fails when the spool is full.
func (s *spool) add(rows []conf.Access) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := encodeSpoolLine(spoolLine{Source: s.source, Seq: s.seq + 1, Rows: rows})
	if err != nil {
		return err
	}
	if s.bytes+int64(len(line)) > s.limit {
		return conf.Errorf(conf.CodeStorageFull, "%d bytes of the access log wait to be delivered", s.bytes)
	}
	w := waiting{source: s.source, seq: s.seq + 1, rows: len(rows), off: s.size, len: len(line)}
	if s.f == nil || s.write(line) != nil {
		w.held = line // it is delivered unless the process ends first
	}
	s.seq++
	s.hold(w)
	return nil
}

// write appends to the file. A part of a line that a full disk left is truncated.
func (s *spool) write(line []byte) error {
	n, err := s.f.WriteAt(line, s.size)
	if err != nil {
		if n > 0 {
			_ = s.f.Truncate(s.size)
		}
		s.alarms.Raise(alarm.SpoolUnwritten, "", err)
		return err
	}
	s.alarms.Clear("")
	s.size += int64(len(line))
	s.dirty = true
	return nil
}

// note writes a line without rows.
func (s *spool) note(l spoolLine) error {
	line, err := encodeSpoolLine(l)
	if err != nil {
		return err
	}
	return s.write(line)
}

// first returns the oldest batch. It stays the same until it is delivered.
func (s *spool) first() (*command.Audit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent != nil {
		return s.sent, true
	}
	if s.owed != nil && s.f != nil && s.note(*s.owed) == nil {
		s.owed = nil
	}
	for len(s.waiting) > 0 {
		var b command.Audit
		n := s.batchLines()
		for _, w := range s.waiting[:n] {
			line := w.held
			if line == nil {
				line = make([]byte, w.len)
				if _, err := s.f.ReadAt(line, w.off); err != nil {
					line = nil
				}
			}
			l, ok := parseSpoolLine(line)
			if !ok {
				alarm.SpoolUnreadable.Report(s.log)
				continue
			}
			b.Source, b.Seq, b.Rows = l.Source, l.Seq, append(b.Rows, l.Rows...)
		}
		if b.Source == "" {
			s.release(n)
			continue
		}
		last := s.waiting[n-1]
		b.Seq = last.seq
		if last.batch != 0 {
			b.Seq = last.batch // its last lines may be missing
		}
		s.sent, s.lines = &b, n
		return s.sent, true
	}
	return nil, false
}

// batchLines returns how many of the first lines are the next batch. A note of that
// is written first; when it cannot be, the batch has one line.
func (s *spool) batchLines() int {
	first := s.waiting[0]
	if first.alone {
		return 1
	}
	n, rows, size, file := 0, 0, 0, false
	for _, w := range s.waiting {
		rows, size = rows+w.rows, size+w.len
		if w.source != first.source || w.alone || w.batch != first.batch || n > 0 && first.batch == 0 && (rows > maxBatch || size > maxBatchBytes) {
			break
		}
		n, file = n+1, file || w.held == nil
	}
	if n == 1 || first.batch != 0 || !file {
		return n
	}
	if s.owed != nil || s.note(spoolLine{Source: first.source, From: first.seq, Seq: s.waiting[n-1].seq}) != nil {
		return 1
	}
	return n
}

// delivered removes the first batch.
func (s *spool) delivered(b *command.Audit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent == nil || s.sent.Source != b.Source || s.sent.Seq != b.Seq {
		return
	}
	held := true
	for _, w := range s.waiting[:s.lines] {
		held = held && w.held != nil
	}
	s.release(s.lines)
	s.sent, s.lines = nil, 0
	if s.f == nil {
		return
	}
	if len(s.waiting) == 0 && s.size > maxIdleBytes {
		s.truncateIfEmpty()
		return
	}
	if done := (spoolLine{Source: b.Source, Seq: b.Seq, Done: true}); !held && s.note(done) != nil {
		s.owed = &done
	}
	if s.size-s.bytes > maxDeadBytes && s.size > 2*s.bytes {
		if err := s.rewrite(); err != nil {
			s.log.Warn("access log spool not compacted", "err", err)
		}
	}
}

// rewrite replaces the file by one with only the waiting lines. A kill at any point
// leaves the old file or the new one.
func (s *spool) rewrite() error {
	tmp := s.path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var text []byte
	fresh := slices.Clone(s.waiting)
	for i := range fresh {
		w := &fresh[i]
		line := w.held
		if line == nil {
			line = make([]byte, w.len)
			if _, err = s.f.ReadAt(line, w.off); err != nil {
				break
			}
		}
		w.off, w.held = int64(len(text)), nil
		text = append(text, line...)
		if w.batch != 0 && (i+1 == len(fresh) || fresh[i+1].batch != w.batch || fresh[i+1].source != w.source) {
			from := i
			for from > 0 && fresh[from-1].batch == w.batch && fresh[from-1].source == w.source {
				from--
			}
			var note []byte
			if note, err = encodeSpoolLine(spoolLine{Source: w.source, From: fresh[from].seq, Seq: w.batch}); err != nil {
				break
			}
			text = append(text, note...)
		}
	}
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	if err == nil {
		err = os.Rename(tmp, s.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	_ = s.f.Close()
	s.f, s.size, s.waiting, s.owed, s.dirty = f, int64(len(text)), fresh, nil, true
	return nil
}

// sync flushes the file to the disk.
func (s *spool) sync() {
	s.mu.Lock()
	f, dirty := s.f, s.dirty
	s.dirty = false
	s.mu.Unlock()
	if f == nil || !dirty {
		return
	}
	if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrClosed) {
		s.log.Warn("access log spool not flushed", "err", err)
	}
}

// truncateIfEmpty truncates a file without waiting lines.
func (s *spool) truncateIfEmpty() {
	if s.f != nil && len(s.waiting) == 0 && s.f.Truncate(0) == nil {
		s.size, s.owed = 0, nil
	}
}

// pending returns how many bytes wait.
func (s *spool) pending() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// full reports whether the next batch has the most rows that it may have.
func (s *spool) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows >= maxBatch
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.truncateIfEmpty()
	if s.f != nil {
		if err := s.f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.log.Warn("closing the access log spool", "err", err)
		}
		s.f = nil
	}
}
