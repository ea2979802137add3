// Guard: a damaged snapshot is detected, and the one before it is used.
//
// Upstream: hashicorp/raft. FileSnapshotStore does not checksum its metadata, creates
// directories that other users can read, and leaves temporary files on a full disk.
//
// Tests: TestEveryFlipInASnapshotIsFound. Known-bad build:
// TestFileSnapshotStoreTrustsItsMetadata shows that raft's store lists a changed index.

package raftguard

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

const (
	snapshotsKept = 2
	largeSnapshot = 16 // of one that takes more than this part of the volume, only the newest is kept
	metaName      = "meta.json"
	stateName     = "state.bin"
	tmpSuffix     = ".tmp"
	metaFormat    = 1
)

// SnapshotStore stores snapshots as directories of two files, each of which ends with
// the SHA-256 of what is before it. A snapshot is written under a temporary name and
// renamed when all of it is on the disk. List and Open return only verified snapshots,
// so a damaged one is replaced by the one before it.
type SnapshotStore struct {
	dir    string
	log    *slog.Logger
	alarms *alarm.Set // by snapshot

	mu            sync.Mutex
	verifyResults map[string]error // of the state of a snapshot, by its id
}

// snapshotMeta is meta.json without its checksum.
type snapshotMeta struct {
	Format             int                  `json:"format"`
	ID                 string               `json:"id"`
	Version            raft.SnapshotVersion `json:"version"`
	Index              uint64               `json:"index"`
	Term               uint64               `json:"term"`
	ConfigurationIndex uint64               `json:"configuration_index"`
	Servers            []raft.Server        `json:"servers"`
	Size               int64                `json:"size"`   // of the state without its checksum
	SHA256             string               `json:"sha256"` // of the state
}

func (m *snapshotMeta) raft() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: m.Version, ID: m.ID, Index: m.Index, Term: m.Term, Size: m.Size,
		Configuration: raft.Configuration{Servers: m.Servers}, ConfigurationIndex: m.ConfigurationIndex,
	}
}

// OpenSnapshots opens the store in dir and removes unfinished snapshots.
func OpenSnapshots(dir string, log *slog.Logger) (*SnapshotStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, StorageError(err, "cannot create %s", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, StorageError(err, "cannot set the mode of %s", dir)
	}
	s := &SnapshotStore{dir: dir, log: log, alarms: alarm.NewSet(log), verifyResults: map[string]error{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, StorageError(err, "cannot read %s", dir)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tmpSuffix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, StorageError(err, "cannot remove the unfinished snapshot %s", e.Name())
			}
		}
	}
	if metas, err := s.verified(); err == nil && len(metas) > 1 && s.kept(metas) == 1 {
		if err := s.reap(); err != nil {
			log.Warn("cannot remove old snapshots", "err", err)
		}
	}
	return s, nil
}

// Create starts a snapshot, which appears in List when its sink is closed.
func (s *SnapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("unknown snapshot version %d", version)
	}
	if err := s.reap(); err != nil { // first, so that there is room
		s.log.Warn("cannot remove old snapshots", "err", err)
	}
	now := time.Now().UnixMilli()
	id := fmt.Sprintf("%d-%d-%d", term, index, now)
	for exists(filepath.Join(s.dir, id)) || exists(filepath.Join(s.dir, id+tmpSuffix)) {
		now++
		id = fmt.Sprintf("%d-%d-%d", term, index, now)
	}
	dir := filepath.Join(s.dir, id+tmpSuffix)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, StorageError(err, "cannot create a snapshot")
	}
	f, err := os.OpenFile(filepath.Join(dir, stateName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, StorageError(err, "cannot create a snapshot")
	}
	return &snapshotSink{
		store: s, dir: dir, file: f, buf: bufio.NewWriterSize(f, 64<<10), sum: sha256.New(),
		meta: snapshotMeta{
			Format: metaFormat, ID: id, Version: version, Index: index, Term: term,
			ConfigurationIndex: confIndex, Servers: conf.Servers,
		},
	}, nil
}

// List returns the snapshots that verify, the newest first.
func (s *SnapshotStore) List() ([]*raft.SnapshotMeta, error) {
	metas, err := s.valid()
	if err != nil {
		return nil, err
	}
	out := make([]*raft.SnapshotMeta, 0, len(metas))
	for _, m := range metas {
		out = append(out, m.raft())
	}
	return out, nil
}

// valid returns the newest snapshots that verify, and are to be kept.
func (s *SnapshotStore) valid() ([]*snapshotMeta, error) {
	metas, err := s.verified()
	return metas[:min(len(metas), s.kept(metas))], err
}

// kept is how many of the snapshots are to be kept.
func (s *SnapshotStore) kept(metas []*snapshotMeta) int {
	if volume := durable.Volume(s.dir); len(metas) > 0 && volume > 0 && uint64(metas[0].Size) > volume/largeSnapshot { //nolint:gosec // a size
		return 1 // the database has the state too
	}
	return snapshotsKept
}

// verified returns all snapshots that verify, the newest first.
func (s *SnapshotStore) verified() ([]*snapshotMeta, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, StorageError(err, "cannot read %s", s.dir)
	}
	var metas []*snapshotMeta
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), tmpSuffix) {
			continue
		}
		m, err := s.verify(e.Name())
		if err == nil {
			metas = append(metas, m)
		}
	}
	slices.SortFunc(metas, func(a, b *snapshotMeta) int {
		return cmp.Or(cmp.Compare(b.Term, a.Term), cmp.Compare(b.Index, a.Index), cmp.Compare(b.ID, a.ID))
	})
	return metas, nil
}

// verify reads the metadata of a snapshot and verifies its state. It verifies the state
// once a process, because Open does it again.
func (s *SnapshotStore) verify(id string) (*snapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result, known := s.verifyResults[id]
	if result != nil {
		return nil, result
	}
	m, err := s.readMeta(id)
	if err == nil && !known {
		var f *os.File
		if f, err = s.openState(m); err == nil {
			f.Close()
		}
	}
	s.verifyResults[id] = err
	if err != nil {
		s.alarms.Raise(alarm.SnapshotDamaged, id, err, "snapshot", id)
	}
	return m, err
}

func (s *SnapshotStore) readMeta(id string) (*snapshotMeta, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, id, metaName))
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "snapshot %s has no metadata: %w", id, err)
	}
	at := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n') + 1
	sum := sha256.Sum256(b[:at])
	if string(b[at:]) != hex.EncodeToString(sum[:])+"\n" {
		return nil, conf.Errorf(conf.CodeCorrupt, "the metadata of snapshot %s is damaged", id)
	}
	m := &snapshotMeta{}
	if err := json.Unmarshal(b[:at], m); err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the metadata of snapshot %s does not decode: %w", id, err)
	}
	if m.Format != metaFormat {
		return nil, conf.Errorf(conf.CodeUnsupported, "snapshot %s has format %d, this build supports %d", id, m.Format, metaFormat)
	}
	if m.ID != id {
		return nil, conf.Errorf(conf.CodeCorrupt, "snapshot %s has the id %s in its metadata", id, m.ID)
	}
	return m, nil
}

// openState verifies the state of m and opens it.
func (s *SnapshotStore) openState(m *snapshotMeta) (_ *os.File, err error) {
	f, err := os.Open(filepath.Join(s.dir, m.ID, stateName))
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "snapshot %s has no state: %w", m.ID, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	sum := sha256.New()
	_, err = io.CopyN(sum, f, m.Size)
	if err == nil {
		var trailer []byte
		if trailer, err = io.ReadAll(io.LimitReader(f, sha256.Size+1)); err == nil {
			got := sum.Sum(nil)
			if !bytes.Equal(trailer, got) || hex.EncodeToString(got) != m.SHA256 {
				err = errors.New("checksum mismatch")
			}
		}
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the state of snapshot %s is damaged: %w", m.ID, err)
	}
	return f, nil
}

// Open verifies snapshot id again and returns its state.
func (s *SnapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, err := s.verify(id)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.openState(m)
	if err != nil {
		s.markDamaged(id, err)
		return nil, nil, err
	}
	return m.raft(), struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, m.Size), f}, nil
}

// NewestSize is the size of the newest snapshot in bytes, 0 without one.
func (s *SnapshotStore) NewestSize() int64 {
	metas, err := s.valid()
	if err != nil || len(metas) == 0 {
		return 0
	}
	return metas[0].Size
}

// markDamaged removes a snapshot from List until the process ends.
func (s *SnapshotStore) markDamaged(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verifyResults[id] = err
	s.alarms.Raise(alarm.SnapshotDamaged, id, err, "snapshot", id)
}

// reap removes old and damaged snapshots.
func (s *SnapshotStore) reap() error {
	metas, err := s.valid()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, m := range metas {
		keep[m.ID] = true
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if keep[e.Name()] || strings.HasSuffix(e.Name(), tmpSuffix) {
			continue
		}
		// Renamed first, so that a crash leaves no partial snapshot under a valid name.
		removed := filepath.Join(s.dir, e.Name()+tmpSuffix)
		if err := os.Rename(filepath.Join(s.dir, e.Name()), removed); err != nil {
			return err
		}
		if err := os.RemoveAll(removed); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.verifyResults, e.Name())
		s.mu.Unlock()
		s.alarms.Clear(e.Name())
	}
	return durable.SyncDir(s.dir)
}

// snapshotSink is a snapshot that is being written.
type snapshotSink struct {
	store *SnapshotStore
	dir   string
	file  *os.File
	buf   *bufio.Writer
	sum   hash.Hash
	meta  snapshotMeta
	done  bool
}

func (k *snapshotSink) ID() string { return k.meta.ID }

func (k *snapshotSink) Write(p []byte) (int, error) {
	n, err := k.buf.Write(p)
	k.sum.Write(p[:n])
	k.meta.Size += int64(n)
	if err != nil {
		return n, StorageError(err, "cannot write the snapshot")
	}
	return n, nil
}

// Close makes the snapshot durable and visible. Raft closes a sink twice.
func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	if err := k.finish(); err != nil {
		_ = k.Cancel()
		return StorageError(err, "cannot complete the snapshot")
	}
	k.done = true
	if err := k.store.reap(); err != nil {
		k.store.log.Warn("cannot remove old snapshots", "err", err)
	}
	return nil
}

func (k *snapshotSink) finish() error {
	sum := k.sum.Sum(nil)
	k.meta.SHA256 = hex.EncodeToString(sum)
	if _, err := k.buf.Write(sum); err != nil {
		return err
	}
	if err := k.buf.Flush(); err != nil {
		return err
	}
	if err := k.file.Sync(); err != nil {
		return err
	}
	if err := k.file.Close(); err != nil {
		return err
	}
	meta, err := json.Marshal(k.meta)
	if err != nil {
		return err
	}
	meta = append(meta, '\n')
	metaSum := sha256.Sum256(meta)
	meta = fmt.Appendf(meta, "%x\n", metaSum)
	if err := durable.WriteFile(filepath.Join(k.dir, metaName), meta, 0o600); err != nil {
		return err
	}
	if err := durable.SyncDir(k.dir); err != nil {
		return err
	}
	if err := os.Rename(k.dir, filepath.Join(k.store.dir, k.meta.ID)); err != nil {
		return err
	}
	return durable.SyncDir(k.store.dir)
}

// Cancel discards the snapshot.
func (k *snapshotSink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	_ = k.file.Close()
	return os.RemoveAll(k.dir)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
