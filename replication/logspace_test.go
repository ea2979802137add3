package replication

import "testing"

// The log is shortened by its bytes, long before raft would write a snapshot, which counts
// entries. A restart goes on from what is left.
func TestLogIsBoundedByBytes(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) { o.LogLimit = 32 << 10 }
	n := fresh(t, dir, small)
	const changes = 200
	n.write(t, "router", 1, changes)
	eventually(t, "a log of few entries", func() bool {
		first, err := n.logs.FirstIndex()
		last, _ := n.Indexes()
		return err == nil && first > 1 && last-first < changes/2
	})
	n.close(t)
	n = start(t, dir, small)
	n.lead(t)
	wantVersion(t, n, "router", changes)
	n.write(t, "router", changes+1, changes+1)
}
