package authlimit

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/connlimit"
)

func TestLimiterRecovers(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	f := New(2, 2, func() time.Time { return now })
	a, b := connlimit.Source("192.0.2.1:1"), connlimit.Source("192.0.2.2:1")
	f.Failed(a, "wrong")
	f.Failed(a, "wrong")
	wait, blocked := f.Blocked(a, "x")
	if !blocked || wait != 500*time.Millisecond {
		t.Errorf("got %v %v, want to wait 500ms", wait, blocked)
	}
	if _, blocked := f.Blocked(b, "x"); blocked {
		t.Error("another address is blocked too")
	}
	now = now.Add(500 * time.Millisecond)
	if _, blocked := f.Blocked(a, "x"); blocked {
		t.Error("still blocked after the wait")
	}
}

func TestLimiterAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	f := New(1, 1, func() time.Time { return now })
	for i := range 3 * maxSources {
		now = now.Add(time.Millisecond)
		f.Failed(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), "wrong")
	}
	if len(f.sources) != maxSources {
		t.Errorf("%d addresses are remembered, want %d", len(f.sources), maxSources)
	}
	one := connlimit.Source("192.0.2.1:1")
	for i := range 3 * maxAccepted {
		f.Accepted(one, fmt.Sprint(i))
	}
	if n := len(f.sources[one].accepted); n != maxAccepted {
		t.Errorf("%d tokens are remembered, want %d", n, maxAccepted)
	}
}
