package replication

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/replication/walstore"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// The remaining one of three members has entries that were never acknowledged. They are
// part of the history after a recovery. Until the next Open its store is unchanged.
func TestRecoverTakesWhatWasNotAcknowledged(t *testing.T) {
	dir := t.TempDir()
	n := fresh(t, dir, nil)
	n.write(t, "router", 1, 3)
	last, _ := n.Indexes()
	term := n.Term()
	n.close(t)

	inner, err := walstore.Open(t.Context(), walstore.Options{Dir: filepath.Join(dir, "raft"), LockTimeout: time.Second, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	data, err := command.Encode(edit("router", 4))
	if err != nil {
		t.Fatal(err)
	}
	members := raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: "n1", Address: "127.0.0.1:1"}, {Suffrage: raft.Voter, ID: "n2", Address: "127.0.0.1:2"}, {Suffrage: raft.Voter, ID: "n3", Address: "127.0.0.1:3"},
	}}
	logs := raftguard.NewChecksumStore(inner)
	err = logs.StoreLogs([]*raft.Log{
		{Index: last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(members)},
		{Index: last + 2, Term: term, Type: raft.LogCommand, Data: data},
	})
	if err == nil {
		err = inner.Close()
	}
	if err != nil {
		t.Fatal(err)
	}

	// One of three is no majority.
	n, err = tryStart(t, dir, func(o *Options) { o.Join = true })
	if err != nil {
		t.Fatal(err)
	}
	base.Holds(t, 500*time.Millisecond, "one of three does not lead", func() bool { return !n.IsLeader() })
	wantVersion(t, n, "router", 3)
	n.close(t)

	st, scratch := openStore(t, dir), openStore(t, t.TempDir())
	if err := Recover(t.Context(), Options{Dir: filepath.Join(dir, "raft"), NodeID: "n1", Advertise: "127.0.0.1:1", FSM: st}, scratch); err != nil {
		t.Fatal(err)
	}
	if v := version(t, st, "router"); v != 3 {
		t.Fatalf("the store was changed: version %d", v)
	}
	if v := version(t, scratch, "router"); v != 4 {
		t.Fatalf("version %d after all of the log", v)
	}
	for _, s := range []interface{ Close() error }{st, scratch} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n = start(t, dir, func(o *Options) { o.Join = true }).lead(t)
	wantVersion(t, n, "router", 4)
	n.write(t, "router", 5, 6)
	if servers, _, err := n.Servers(); err != nil || len(servers) != 1 || servers[0].ID != "n1" || !servers[0].Voter {
		t.Fatalf("%+v, %v", servers, err)
	}
}

func TestRecoverWithoutALog(t *testing.T) {
	st := openStore(t, t.TempDir())
	defer st.Close()
	err := Recover(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "raft"), NodeID: "n1", FSM: st}, st)
	wantCode(t, err, conf.CodeCorrupt)
}
