package raftguard

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestEntryChecksum(t *testing.T) {
	s, inner := openLogs(t)
	give := &raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("some data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1, 0)}
	if err := s.StoreLog(give); err != nil {
		t.Fatal(err)
	}
	if string(give.Extensions) != "ext" {
		t.Fatal("the caller's entry was changed")
	}
	var got raft.Log
	if err := s.GetLog(7, &got); err != nil || string(got.Data) != "some data" || string(got.Extensions) != "ext" {
		t.Fatalf("read %+v, %v", got, err)
	}
	if err := s.GetLog(8, &got); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("an entry that is not there: %v", err)
	}
	for name, change := range map[string]func(*raft.Log){
		"index":      func(l *raft.Log) { l.Index = 8 },
		"term":       func(l *raft.Log) { l.Term++ },
		"type":       func(l *raft.Log) { l.Type = raft.LogNoop },
		"data":       func(l *raft.Log) { l.Data[3] ^= 4 },
		"extensions": func(l *raft.Log) { l.Extensions[0] ^= 4 },
		"sum":        func(l *raft.Log) { l.Extensions[len(l.Extensions)-1] ^= 4 },
		"no sum":     func(l *raft.Log) { l.Extensions = nil },
	} {
		var l raft.Log
		if err := inner.GetLog(7, &l); err != nil {
			t.Fatal(err)
		}
		change(&l)
		at := l.Index
		if err := inner.StoreLog(&l); err != nil {
			t.Fatal(err)
		}
		if err := inner.GetLog(at, &l); err != nil {
			t.Fatalf("%s: the log store itself found it: %v", name, err)
		}
		if err := verifyChecksum(7, &l); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s was changed and it went unnoticed: %v", name, err)
		}
		if err := s.StoreLog(give); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEntryWithoutExtensions(t *testing.T) {
	s, _ := openLogs(t)
	if err := s.StoreLog(&raft.Log{Index: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	var got raft.Log
	if err := s.GetLog(1, &got); err != nil || got.Extensions != nil {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestStableChecksum(t *testing.T) {
	s, inner := openLogs(t)
	if _, err := s.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
		t.Fatalf("raft compares the text of this error: %v", err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 9); err != nil {
		t.Fatal(err)
	}
	if v, err := s.GetUint64([]byte("CurrentTerm")); v != 9 || err != nil {
		t.Fatalf("%d, %v", v, err)
	}
	raw, err := inner.Get([]byte("CurrentTerm"))
	if err != nil {
		t.Fatal(err)
	}
	raw[7] ^= 2
	if err := inner.Set([]byte("CurrentTerm"), raw); err != nil {
		t.Fatal(err)
	}
	_, err = s.GetUint64([]byte("CurrentTerm"))
	wantCode(t, err, conf.CodeCorrupt)
	if err := inner.Set([]byte("LastVoteTerm"), raw); err != nil { // a value under another's key
		t.Fatal(err)
	}
	_, err = s.GetUint64([]byte("LastVoteTerm"))
	wantCode(t, err, conf.CodeCorrupt)
}
