package walstore

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast-config/holdfast/replication/raftguard"
)

// BenchmarkAppend compares the two kinds of a log. On a disk where a sync takes time, and a
// sync of a busy log file may be two, it is most of a write.
func BenchmarkAppend(b *testing.B) {
	for _, kind := range Kinds() {
		for _, entries := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d", kind, entries), func(b *testing.B) {
				dir := b.TempDir()
				o := options(dir)
				o.SegmentSize = DefaultSegment
				f, err := Open(b.Context(), o)
				if err == nil {
					f, err = Move(b.Context(), o, f, kind)
				}
				if err != nil {
					b.Fatal(err)
				}
				l := log{raftguard.NewChecksumStore(f), f}
				defer l.close(b)
				batch, next := make([]*raft.Log, entries), uint64(1)
				b.ReportAllocs()
				for b.Loop() {
					for i := range batch {
						batch[i] = entry(next, 1000)
						next++
					}
					if err := l.StoreLogs(batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
