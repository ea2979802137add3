package walstore

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// errStable is the answer to what raft-wal is never asked: the stable values are in raft.db.
var errStable = errors.New("no stable values here")

type noStable struct{}

func (noStable) GetStable([]byte) ([]byte, error) { return nil, errStable }
func (noStable) SetStable(_, _ []byte) error      { return errStable }
func (noStable) Close() error                     { return nil }

// committed is the state of the segments, in raft.db.
type committed struct {
	noStable
	stable interface{ Set(key, value []byte) error }
	dir    string
	state  []byte
}

// Load implements types.MetaStore.
func (c *committed) Load(string) (s types.PersistentState, err error) { return decodeState(c.state) }

// CommitState implements types.MetaStore. The newest segment exists before the state names it.
func (c *committed) CommitState(s types.PersistentState) error {
	old, err := decodeState(c.state)
	if err != nil {
		return err
	}
	state, err := prepare(c.dir, old, s)
	if err != nil {
		return err
	}
	if err := c.stable.Set([]byte(raftguard.SegmentsKey), state); err != nil {
		return err
	}
	c.state = state
	return nil
}

// drafted is the state of segments that are not the log yet.
type drafted struct {
	noStable
	dir   string
	state types.PersistentState
}

// Load implements types.MetaStore.
func (d *drafted) Load(string) (types.PersistentState, error) { return d.state, nil }

// CommitState implements types.MetaStore.
func (d *drafted) CommitState(s types.PersistentState) error {
	_, err := prepare(d.dir, d.state, s)
	d.state = s
	return err
}

func (d *drafted) encoded() ([]byte, error) { return json.Marshal(d.state) }

func decodeState(b []byte) (s types.PersistentState, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return s, raftguard.Corrupt("the state of the log's segments does not decode: %w", err)
	}
	return s, nil
}

// prepare makes the newest segment of s, unless it is that of old, and returns s as it is
// stored.
func prepare(dir string, old, s types.PersistentState) ([]byte, error) {
	if tail := newestOf(s); tail.SealTime.IsZero() && tail.BaseIndex > 0 && (tail.ID != newestOf(old).ID || len(old.Segments) == 0) {
		if err := makeSegment(filepath.Join(dir, segment.FileName(tail)), int64(tail.SizeLimit)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(s)
}

func newestOf(s types.PersistentState) (tail types.SegmentInfo) {
	if n := len(s.Segments); n > 0 {
		tail = s.Segments[n-1]
	}
	return tail
}

// makeSegment makes a segment of zeros, and syncs it and its name. One that is there was
// never named by a state: a crash left it.
func makeSegment(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return raftguard.StorageError(err, "cannot begin a segment of the log")
	}
	err = allocate(f, size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return raftguard.StorageError(errors.Join(err, os.Remove(path)), "cannot begin a segment of the log")
	}
	return nil
}
