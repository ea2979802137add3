package replication

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
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	snapshotsKept = 2
	metaName      = "meta.json"
	stateName     = "state.bin"
	tmpSuffix     = ".tmp"
	metaFormat    = 1
)

// snapshotStore keeps snapshots as directories of two files, each of which ends
// with the SHA-256 of what is before it. A snapshot is written under a temporary
// name and renamed when all of it is on the disk. List and Open give only what
// verifies, so a damaged snapshot gives way to the one before it.
type snapshotStore struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	judged map[string]error // what the verification of a snapshot's state said
}

// snapshotMeta is meta.json without its sum.
type snapshotMeta struct {
	Format             int                  `json:"format"`
	ID                 string               `json:"id"`
	Version            raft.SnapshotVersion `json:"version"`
	Index              uint64               `json:"index"`
	Term               uint64               `json:"term"`
	ConfigurationIndex uint64               `json:"configuration_index"`
	Servers            []raft.Server        `json:"servers"`
	Size               int64                `json:"size"`   // of the state without its sum
	SHA256             string               `json:"sha256"` // of the state
}

func (m *snapshotMeta) raft() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: m.Version, ID: m.ID, Index: m.Index, Term: m.Term, Size: m.Size,
		Configuration: raft.Configuration{Servers: m.Servers}, ConfigurationIndex: m.ConfigurationIndex,
	}
}

// openSnapshots opens the store in dir and removes what a crash left half written.
func openSnapshots(dir string, log *slog.Logger) (*snapshotStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, storageError(err, "cannot make %s", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, storageError(err, "cannot make %s private", dir)
	}
	s := &snapshotStore{dir: dir, log: log, judged: map[string]error{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, storageError(err, "cannot read %s", dir)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tmpSuffix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, storageError(err, "cannot remove the unfinished snapshot %s", e.Name())
			}
		}
	}
	return s, nil
}

// Create starts a snapshot, which appears in List when its sink is closed.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("unknown snapshot version %d", version)
	}
	now := time.Now().UnixMilli()
	id := fmt.Sprintf("%d-%d-%d", term, index, now)
	for exists(filepath.Join(s.dir, id)) || exists(filepath.Join(s.dir, id+tmpSuffix)) {
		now++
		id = fmt.Sprintf("%d-%d-%d", term, index, now)
	}
	dir := filepath.Join(s.dir, id+tmpSuffix)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, storageError(err, "cannot make a snapshot")
	}
	f, err := os.OpenFile(filepath.Join(dir, stateName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, storageError(err, "cannot make a snapshot")
	}
	return &snapshotSink{
		store: s, dir: dir, file: f, buf: bufio.NewWriterSize(f, 64<<10), sum: sha256.New(),
		meta: snapshotMeta{
			Format: metaFormat, ID: id, Version: version, Index: index, Term: term,
			ConfigurationIndex: confIndex, Servers: conf.Servers,
		},
	}, nil
}

// List names the snapshots that verify, the newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	metas, err := s.valid()
	if err != nil {
		return nil, err
	}
	out := make([]*raft.SnapshotMeta, 0, len(metas))
	for _, m := range metas[:min(len(metas), snapshotsKept)] {
		out = append(out, m.raft())
	}
	return out, nil
}

func (s *snapshotStore) valid() ([]*snapshotMeta, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, storageError(err, "cannot read %s", s.dir)
	}
	var metas []*snapshotMeta
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), tmpSuffix) {
			continue
		}
		m, err := s.judge(e.Name())
		if err == nil {
			metas = append(metas, m)
		}
	}
	slices.SortFunc(metas, func(a, b *snapshotMeta) int {
		return cmp.Or(cmp.Compare(b.Term, a.Term), cmp.Compare(b.Index, a.Index), cmp.Compare(b.ID, a.ID))
	})
	return metas, nil
}

// judge reads the meta data of a snapshot and verifies its state, that at most
// once a process: Open does it again anyway.
func (s *snapshotStore) judge(id string) (*snapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	verdict, known := s.judged[id]
	if verdict != nil {
		return nil, verdict
	}
	m, err := s.readMeta(id)
	if err == nil && !known {
		var f *os.File
		if f, err = s.openState(m); err == nil {
			f.Close()
		}
	}
	s.judged[id] = err
	if err != nil {
		s.log.Error("a snapshot is damaged and will not be used", "snapshot", id, "error", err)
	}
	return m, err
}

func (s *snapshotStore) readMeta(id string) (*snapshotMeta, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, id, metaName))
	if err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "snapshot %s has no meta data: %w", id, err)
	}
	at := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n') + 1
	sum := sha256.Sum256(b[:at])
	if string(b[at:]) != hex.EncodeToString(sum[:])+"\n" {
		return nil, conf.Errorf(conf.CodeCorrupt, "the meta data of snapshot %s is not what was written", id)
	}
	m := &snapshotMeta{}
	if err := json.Unmarshal(b[:at], m); err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "the meta data of snapshot %s does not parse: %w", id, err)
	}
	if m.Format != metaFormat {
		return nil, conf.Errorf(conf.CodeUnsupported, "snapshot %s has format %d, this build knows %d", id, m.Format, metaFormat)
	}
	if m.ID != id {
		return nil, conf.Errorf(conf.CodeCorrupt, "snapshot %s says that it is %s", id, m.ID)
	}
	return m, nil
}

// openState opens the state of m after it verified all of it.
func (s *snapshotStore) openState(m *snapshotMeta) (_ *os.File, err error) {
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
		return nil, conf.Errorf(conf.CodeCorrupt, "the state of snapshot %s is not what was written: %w", m.ID, err)
	}
	return f, nil
}

// Open verifies snapshot id once more and gives its state.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, err := s.judge(id)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.openState(m)
	if err != nil {
		s.condemn(id, err)
		return nil, nil, err
	}
	return m.raft(), struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, m.Size), f}, nil
}

// condemn takes a snapshot out of List for as long as this process runs.
func (s *snapshotStore) condemn(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judged[id] = err
	s.log.Error("a snapshot is damaged and will not be used", "snapshot", id, "error", err)
}

// reap removes all but the newest snapshots, and the damaged ones.
func (s *snapshotStore) reap() error {
	metas, err := s.valid()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, m := range metas[:min(len(metas), snapshotsKept)] {
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
		// Renamed first, so that a crash leaves nothing that looks whole.
		gone := filepath.Join(s.dir, e.Name()+tmpSuffix)
		if err := os.Rename(filepath.Join(s.dir, e.Name()), gone); err != nil {
			return err
		}
		if err := os.RemoveAll(gone); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.judged, e.Name())
		s.mu.Unlock()
	}
	return syncDir(s.dir)
}

// snapshotSink is a snapshot that is being written.
type snapshotSink struct {
	store *snapshotStore
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
		return n, storageError(err, "cannot write the snapshot")
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
		return storageError(err, "cannot finish the snapshot")
	}
	k.done = true
	if err := k.store.reap(); err != nil {
		k.store.log.Warn("cannot remove old snapshots", "error", err)
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
	if err := writeFileSync(filepath.Join(k.dir, metaName), meta); err != nil {
		return err
	}
	if err := syncDir(k.dir); err != nil {
		return err
	}
	if err := os.Rename(k.dir, filepath.Join(k.store.dir, k.meta.ID)); err != nil {
		return err
	}
	return syncDir(k.store.dir)
}

// Cancel drops the snapshot.
func (k *snapshotSink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	_ = k.file.Close()
	return os.RemoveAll(k.dir)
}

func writeFileSync(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes names that were made, renamed or removed in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
