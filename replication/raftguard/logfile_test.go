package raftguard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestDamagedKeyOfAnEntry: a damaged key makes the file invalid. Without the guard bbolt
// opens it and misses the entry.
func TestDamagedKeyOfAnEntry(t *testing.T) {
	const damagedIndex = 1007
	path := filepath.Join(t.TempDir(), "raft.db")
	b, err := OpenLogFile(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1001); i <= 1010; i++ {
		if err := b.StoreLog(&raft.Log{Index: i, Term: 1, Data: []byte("some data")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := binary.BigEndian.AppendUint64(nil, damagedIndex)
	other := binary.BigEndian.AppendUint64(nil, 1<<56+damagedIndex)
	if err := os.WriteFile(path, bytes.ReplaceAll(data, key, other), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := OpenLogFile(t.Context(), path, time.Second); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("opened a damaged file: %v, %v", b, err)
	}
	b, err = raftboltdb.NewBoltStore(path)
	if err != nil {
		t.Fatalf("without the guard nothing happened: the test proves nothing: %v", err)
	}
	defer b.Close()
	if err := b.GetLog(damagedIndex, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("without the guard nothing happened: the test proves nothing: %v", err)
	}
}
