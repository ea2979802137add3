package logspace

import (
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of the bytes of a log before it is shortened.
const (
	maxLimit   = 64 << 20
	minLimit   = 4 << 20
	ofVolume   = 16 // the limit is at most this part of the volume
	ofLimit    = 4  // the part of the limit that stays behind a snapshot
	minEntries = 16 // that stay at least: a follower that lags a little needs no snapshot
	checkEvery = time.Second
	ofSnapshot = 4                // the part of a snapshot's size that a log may have: each costs as much as it is large
	maxRest    = 30 * time.Second // between two attempts that fail
)

// Limit is the size of a log on a volume of so many bytes, 0 for unknown.
func Limit(volume uint64) int64 {
	if volume == 0 {
		return maxLimit
	}
	return int64(min(max(volume/ofVolume, minLimit), maxLimit)) //nolint:gosec // at most maxLimit
}

// Raft is the part of raft.Raft that a Bound calls.
type Raft interface {
	ReloadableConfig() raft.ReloadableConfig
	ReloadConfig(raft.ReloadableConfig) error
	Snapshot() raft.SnapshotFuture
}

// Bound has Raft write a snapshot and drop entries when a log takes more than Limit bytes.
type Bound struct {
	Log    *Log
	Raft   Raft
	Limit  int64
	Newest func() int64 // size of the newest snapshot, 0 for none
	Logger *slog.Logger
}

func (b *Bound) limit() int64 { return max(b.Limit, b.Newest()/ofSnapshot) }

// Run checks each second until stopping is closed.
func (b *Bound) Run(stopping <-chan struct{}) {
	usual := b.Raft.ReloadableConfig()
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for rest := time.Duration(0); ; {
		select {
		case <-tick.C:
		case <-stopping:
			return
		}
		if rest -= checkEvery; rest > 0 || b.Log.Bytes() <= b.Limit || b.Log.Bytes() <= b.limit() { // the latter reads the disk
			continue
		}
		rest = 0
		if err := b.shorten(usual, stopping); err != nil {
			b.Logger.Warn("the log is larger than it should be, and was not shortened: trying again", "bytes", b.Log.Bytes(), "limit", b.limit(), "err", err)
			rest = maxRest
		}
	}
}

// shorten writes a snapshot and keeps fewer entries behind it than usual.
func (b *Bound) shorten(usual raft.ReloadableConfig, stopping <-chan struct{}) error {
	short := usual
	short.TrailingLogs = min(usual.TrailingLogs, max(minEntries, b.Log.Newest(b.limit()/ofLimit)))
	if err := b.Raft.ReloadConfig(short); err != nil {
		return err
	}
	defer func() { _ = b.Raft.ReloadConfig(usual) }()
	done := make(chan error, 1)
	go func() { done <- b.Raft.Snapshot().Error() }() // a shutdown of Raft ends it
	select {
	case err := <-done:
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			err = nil // the next entry makes it possible
		}
		return err
	case <-stopping:
		return nil
	}
}
