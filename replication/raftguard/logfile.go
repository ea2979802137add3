// Guard: the log file is verified before bbolt maps it.
//
// Upstream: bbolt trusts the pages of its file. A damaged page makes it panic on a
// goroutine of its own, loop, lose entries, or write over live pages.
//
// Tests: TestDamagedKeyOfAnEntry; TestFlipsInTheLogsFile, TestFlipsInTheTerm
// (replication). Known-bad build: the first opens the damaged file without the guard
// too, and bbolt misses an entry without an error.

package raftguard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/conf"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// Names of the buckets of raft-boltdb.
const (
	logBucket    = "logs"
	stableBucket = "conf"
)

// OpenLogFile opens the log file. checkFile verifies it first, under the lock that
// bbolt takes. conf.CodeCorrupt: it is damaged. conf.CodeLocked: another process has
// it open.
func OpenLogFile(ctx context.Context, path string, timeout time.Duration) (*raftboltdb.BoltStore, error) {
	var st *raftboltdb.BoltStore
	err := RecoverPanic("open", func() (err error) {
		st, err = raftboltdb.New(raftboltdb.Options{
			Path:        path,
			BoltOptions: boltOptions(ctx, timeout),
		})
		return err
	})
	switch {
	case err == nil:
		return st, nil
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, errLocked(path)
	default:
		return nil, StorageError(err, "cannot open %s", path)
	}
}

func errLocked(path string) error {
	return conf.Errorf(conf.CodeLocked, "another process holds %s", path).
		WithHint("stop the other agent that uses this data directory")
}

// Layout of a bbolt file, version 2, little endian.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	pageHeader     = 16 // id u64, flags u16, count u16, overflow u32
	metaSize       = 64
	branchElement  = 16 // pos u32, ksize u32, pgid u64
	leafElement    = 16 // flags u32, pos u32, ksize u32, vsize u32
	bucketHeader   = 16 // root u64, sequence u64
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagFreelist   = 0x10
	noFreelist     = ^uint64(0)
	bucketLeafFlag = 0x01
	maxPageSize    = 64 << 10
)

type boltMeta struct {
	pageSize                  uint32
	root, freelist, hwm, txid uint64
}

// boltWalk is one traversal of the tree of a file.
type boltWalk struct {
	r       io.ReaderAt
	meta    boltMeta
	visited map[uint64]bool
	free    map[uint64]bool
}

func damaged(format string, args ...any) error {
	return Corrupt("the log file is damaged: "+format, args...)
}

// checkFile verifies everything that bbolt assumes: that each page is where its
// parent says, is referenced once, has elements inside of it, and keys in order. The
// values have their own checksums.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // bbolt creates it
	}
	meta, err := readMetas(f, info.Size())
	if err != nil {
		return err
	}
	w := &boltWalk{r: f, meta: meta, visited: map[uint64]bool{0: true, 1: true}, free: map[uint64]bool{}}
	if meta.freelist != noFreelist {
		if err := w.freelist(meta.freelist); err != nil {
			return err
		}
	}
	return w.page(meta.root, nil, nil, 0, w.rootElement)
}

func readMetas(r io.ReaderAt, size int64) (boltMeta, error) {
	var best boltMeta
	first, ok := readMeta(r, 0)
	if ok {
		best = first
	}
	for ps := int64(512); ps <= maxPageSize; ps <<= 1 {
		second, good := readMeta(r, ps)
		if !good || int64(second.pageSize) != ps || (ok && first.pageSize != second.pageSize) {
			continue
		}
		if !ok || second.txid > best.txid {
			best = second
		}
		ok = true
	}
	switch {
	case !ok:
		return best, damaged("no valid meta page")
	case best.pageSize < 512 || best.pageSize > maxPageSize || best.pageSize&(best.pageSize-1) != 0:
		return best, damaged("page size %d", best.pageSize)
	case best.hwm < 2 || best.hwm > uint64(size)/uint64(best.pageSize):
		return best, damaged("%d pages of %d bytes in a file of %d bytes", best.hwm, best.pageSize, size)
	}
	return best, nil
}

func readMeta(r io.ReaderAt, at int64) (m boltMeta, ok bool) {
	b := make([]byte, metaSize)
	if _, err := r.ReadAt(b, at+pageHeader); err != nil {
		return m, false
	}
	le := binary.LittleEndian
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8])
	if le.Uint32(b) != boltMagic || le.Uint32(b[4:]) != boltVersion || le.Uint64(b[56:]) != sum.Sum64() {
		return m, false
	}
	return boltMeta{
		pageSize: le.Uint32(b[8:]), root: le.Uint64(b[16:]), // its sequence follows
		freelist: le.Uint64(b[32:]), hwm: le.Uint64(b[40:]), txid: le.Uint64(b[48:]),
	}, true
}

// read returns page id with its overflow, and marks all of it as visited.
func (w *boltWalk) read(id uint64) ([]byte, error) {
	if id < 2 || id >= w.meta.hwm {
		return nil, damaged("page %d is outside of the file", id)
	}
	ps := int64(w.meta.pageSize)
	header := make([]byte, pageHeader)
	if _, err := w.r.ReadAt(header, int64(id)*ps); err != nil {
		return nil, damaged("page %d: %v", id, err)
	}
	if got := binary.LittleEndian.Uint64(header); got != id {
		return nil, damaged("page %d has the id %d", id, got)
	}
	overflow := uint64(binary.LittleEndian.Uint32(header[12:]))
	if overflow >= w.meta.hwm-id {
		return nil, damaged("page %d reaches outside of the file", id)
	}
	for i := id; i <= id+overflow; i++ {
		if w.visited[i] || w.free[i] {
			return nil, damaged("page %d is used twice", i)
		}
		w.visited[i] = true
	}
	b := make([]byte, int64(overflow+1)*ps)
	if _, err := w.r.ReadAt(b, int64(id)*ps); err != nil {
		return nil, damaged("page %d: %v", id, err)
	}
	return b, nil
}

func (w *boltWalk) freelist(id uint64) error {
	b, err := w.read(id)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint16(b[8:]) != flagFreelist {
		return damaged("page %d is not a freelist", id)
	}
	n, ids := uint64(le.Uint16(b[10:])), b[pageHeader:]
	if n == 0xFFFF {
		n, ids = le.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return damaged("freelist of %d pages", n)
	}
	for i := range n {
		p := le.Uint64(ids[i*8:])
		if p < 2 || p >= w.meta.hwm || w.free[p] || w.visited[p] {
			return damaged("freelist names page %d", p)
		}
		w.free[p] = true
	}
	return nil
}

// page traverses the subtree under id, whose keys lie in [low, high), and calls visit
// with each leaf element.
func (w *boltWalk) page(id uint64, low, high []byte, depth int, visit func(flags uint32, key, value []byte) error) error {
	if depth > 64 {
		return damaged("the tree is too deep")
	}
	b, err := w.read(id)
	if err != nil {
		return err
	}
	switch flags := binary.LittleEndian.Uint16(b[8:]); flags {
	case flagLeaf:
		return leaf(b, low, high, visit)
	case flagBranch:
		return w.branch(id, b, low, high, depth, visit)
	default:
		return damaged("page %d has type %#x", id, flags)
	}
}

func (w *boltWalk) branch(id uint64, b, low, high []byte, depth int, visit func(uint32, []byte, []byte) error) error {
	le := binary.LittleEndian
	n := int(le.Uint16(b[10:]))
	if n == 0 || pageHeader+n*branchElement > len(b) {
		return damaged("branch page %d has %d elements", id, n)
	}
	keys, children := make([][]byte, n), make([]uint64, n)
	for i := range n {
		at := pageHeader + i*branchElement
		key, ok := slice(b, at, le.Uint32(b[at:]), le.Uint32(b[at+4:]))
		if !ok || !inOrder(keys, i, key, low, high) {
			return damaged("key %d of branch page %d", i, id)
		}
		keys[i], children[i] = key, le.Uint64(b[at+8:])
	}
	for i, child := range children {
		end := high
		if i+1 < n {
			end = keys[i+1]
		}
		if err := w.page(child, keys[i], end, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

func leaf(b, low, high []byte, visit func(uint32, []byte, []byte) error) error {
	le := binary.LittleEndian
	n := int(le.Uint16(b[10:]))
	if pageHeader+n*leafElement > len(b) {
		return damaged("leaf page with %d elements", n)
	}
	keys := make([][]byte, n)
	for i := range n {
		at := pageHeader + i*leafElement
		pos, ksize, vsize := le.Uint32(b[at+4:]), le.Uint32(b[at+8:]), le.Uint32(b[at+12:])
		key, ok := slice(b, at, pos, ksize)
		if !ok || len(key) == 0 || !inOrder(keys, i, key, low, high) {
			return damaged("key %d of a leaf page", i)
		}
		keys[i] = key
		value, ok := slice(b, at+len(key), pos, vsize)
		if !ok {
			return damaged("value %d of a leaf page", i)
		}
		if err := visit(le.Uint32(b[at:]), key, value); err != nil {
			return err
		}
	}
	return nil
}

// slice is b[at+pos : at+pos+size], when that is inside.
func slice(b []byte, at int, pos, size uint32) ([]byte, bool) {
	from := int64(at) + int64(pos)
	to := from + int64(size)
	if to > int64(len(b)) {
		return nil, false
	}
	return b[from:to], true
}

func inOrder(keys [][]byte, i int, key, low, high []byte) bool {
	switch {
	case i > 0 && bytes.Compare(keys[i-1], key) >= 0:
		return false
	case low != nil && bytes.Compare(key, low) < 0:
		return false
	case high != nil && bytes.Compare(key, high) >= 0:
		return false
	}
	return true
}

// rootElement accepts the two buckets of raft-boltdb, and traverses them.
func (w *boltWalk) rootElement(flags uint32, key, value []byte) error {
	visit := logElement
	switch string(key) {
	case logBucket:
	case stableBucket:
		visit = stableElement
	default:
		return damaged("unknown bucket %q", key)
	}
	if flags != bucketLeafFlag || len(value) < bucketHeader {
		return damaged("%q is not a bucket", key)
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return w.page(root, nil, nil, 0, visit)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.LittleEndian.Uint16(inline[8:]) != flagLeaf {
		return damaged("bucket %q has no page", key)
	}
	return leaf(inline, nil, nil, visit)
}

func logElement(flags uint32, key, _ []byte) error {
	if flags != 0 || len(key) != 8 {
		return damaged("key %x in the log", key)
	}
	return nil
}

// stableElement accepts the keys that raft and this package write: with a damaged key
// its value would seem to be missing.
func stableElement(flags uint32, key, _ []byte) error {
	switch string(key) {
	case termKey, "LastVoteTerm", "LastVoteCand", formatKey, SegmentsKey:
		if flags == 0 {
			return nil
		}
	}
	return damaged("stored key %q", key)
}
