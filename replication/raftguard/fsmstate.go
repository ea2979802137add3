package raftguard

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
)

// StateMachine is the part of the FSM that snapshots need.
type StateMachine interface {
	Applied() (index, term uint64)
	Snapshot(ctx context.Context) (*store.Snapshot, error)
	Restore(ctx context.Context, r io.Reader) error
}

// stateHeader precedes the state in a snapshot. Its index is that of the last command
// in the state. The snapshot's may be higher, because raft's own entries have indexes too.
type stateHeader struct{ Index, Term uint64 }

var stateMagic = []byte("HFSTATE1")

const stateHeaderSize = 8 + 8 + 8

// WriteState writes the header and the state of s.
func WriteState(w io.Writer, s *store.Snapshot) error {
	header := append([]byte{}, stateMagic...)
	header = binary.BigEndian.AppendUint64(header, s.Index())
	header = binary.BigEndian.AppendUint64(header, s.Term())
	if _, err := w.Write(header); err != nil {
		return err
	}
	_, err := s.WriteTo(w)
	return err
}

func readStateHeader(r io.Reader) (h stateHeader, err error) {
	var b [stateHeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || !bytes.Equal(b[:8], stateMagic) {
		return h, conf.Errorf(conf.CodeCorrupt, "the state of the snapshot has an unknown format")
	}
	return stateHeader{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, nil
}

// RestoreState replaces the state of m with what WriteState wrote.
func RestoreState(ctx context.Context, m StateMachine, r io.Reader) error {
	h, err := readStateHeader(r)
	if err != nil {
		return err
	}
	return restoreState(ctx, m, h, r)
}

// restoreState does it after the header was read.
func restoreState(ctx context.Context, m StateMachine, h stateHeader, r io.Reader) error {
	if err := m.Restore(ctx, r); err != nil {
		return err
	}
	if index, term := m.Applied(); index != h.Index || term != h.Term {
		return conf.Errorf(conf.CodeCorrupt, "the snapshot of index %d, term %d restored as %d, %d", h.Index, h.Term, index, term)
	}
	return nil
}
