package logspace_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/logspace"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

// real is the size of all entries of a store.
func real(t *testing.T, s raft.LogStore) (bytes int64, newest []int64) {
	t.Helper()
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	for i := first; i <= last && first > 0; i++ {
		var e raft.Log
		if err := s.GetLog(i, &e); err != nil {
			t.Fatal(err)
		}
		n := int64(len(e.Data)+len(e.Extensions)) + 128
		bytes += n
		newest = append([]int64{n}, newest...)
	}
	return bytes, newest
}

// A Log answers as the store below it does, whatever is stored, overwritten and deleted,
// and counts what is there.
func TestLogCounts(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		below := monotonic{raft.NewInmemStore()}
		next := uint64(1 + r.IntN(100))
		add := func(s raft.LogStore, n int) {
			t.Helper()
			var entries []*raft.Log
			for range n {
				entries = append(entries, &raft.Log{Index: next, Term: r.Uint64N(9), Data: bytes.Repeat([]byte{byte(next)}, r.IntN(3_000_000))})
				next++
			}
			if err := s.StoreLogs(entries); err != nil {
				t.Fatal(err)
			}
		}
		add(below, r.IntN(5)) // before the Log was there
		l := logspace.NewLog(below)
		if m, ok := raft.LogStore(l).(raft.MonotonicLogStore); !ok || !m.IsMonotonic() {
			t.Fatal("raft would leave gaps in the log")
		}
		measured := false
		for range 30 {
			first, _ := below.FirstIndex()
			switch r.IntN(6) {
			case 0: // behind a snapshot
				if first > 0 && next > first {
					if err := l.DeleteRange(first, first+r.Uint64N(next-first)); err != nil {
						t.Fatal(err)
					}
				}
			case 1: // another leader's entries replace some
				if first > 0 && next > first {
					from := first + r.Uint64N(next-first)
					if err := l.DeleteRange(from, next-1); err != nil {
						t.Fatal(err)
					}
					next = from
				}
			case 2:
				if err := l.Measure(nil); err != nil {
					t.Fatal(err)
				}
				measured = true
			default:
				add(l, 1+r.IntN(4))
			}
			sum, newest := real(t, below)
			if got := l.Bytes(); measured && got != sum || got > sum {
				t.Fatalf("seed %d: %d bytes, the store has %d", seed, got, sum)
			}
			if !measured {
				continue
			}
			budget, want := r.Int64N(sum+1), uint64(0)
			for left, i := budget, 0; i < len(newest) && left >= newest[i]; i++ {
				left -= newest[i]
				want++
			}
			if got := l.Newest(budget); got != want {
				t.Fatalf("seed %d: %d of the newest entries in %d bytes, want %d", seed, got, budget, want)
			}
			first, _ = below.FirstIndex()
			for i := first; i < next && first > 0; i++ {
				var got, want raft.Log
				if err := errors.Join(l.GetLog(i, &got), below.GetLog(i, &want)); err != nil || got.Term != want.Term || !bytes.Equal(got.Data, want.Data) {
					t.Fatalf("seed %d: entry %d: %v", seed, i, err)
				}
			}
			var none raft.Log
			if err := l.GetLog(next, &none); !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("seed %d: an entry behind the last: %v", seed, err)
			}
		}
	}
}

// What is kept in memory has a size, not a number.
func TestCacheIsBounded(t *testing.T) {
	below := &reads{Store: monotonic{raft.NewInmemStore()}}
	l := logspace.NewLog(below)
	const entries, each = 100, 1 << 20
	for i := range uint64(entries) {
		if err := l.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, each)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(entries) {
		var e raft.Log
		if err := l.GetLog(i+1, &e); err != nil {
			t.Fatal(err)
		}
	}
	if cached := entries - below.n; cached > logspace.CacheBytes/each || cached < logspace.CacheBytes/each/2 {
		t.Errorf("%d entries of 1 MiB are in memory", cached)
	}
}

// monotonic is a store without gaps, as that of an agent.
type monotonic struct{ *raft.InmemStore }

func (monotonic) IsMonotonic() bool { return true }

type reads struct {
	logspace.Store
	n int
}

func (r *reads) GetLog(index uint64, out *raft.Log) error {
	r.n++
	return r.Store.GetLog(index, out)
}

func TestLimit(t *testing.T) {
	for volume, want := range map[uint64]int64{0: 64 << 20, 10 << 20: 4 << 20, 480 << 20: 30 << 20, 1 << 40: 64 << 20} {
		if got := logspace.Limit(volume); got != want {
			t.Errorf("%d of a volume of %d, want %d", got, volume, want)
		}
	}
}
