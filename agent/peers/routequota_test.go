package peers

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// TestForwardedRequestsHaveAQuota: in number and in bytes, of each member, reads apart
// from changes.
func TestForwardedRequestsHaveAQuota(t *testing.T) {
	t.Parallel()
	q := newRoutes(&Cluster{log: slog.New(slog.DiscardHandler)})
	taken := func(node, method, path string, size int64, most int) (n int) {
		for ; n < most; n++ {
			r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("x"))
			r.ContentLength = size
			if err := q.admit(pki.Peer{NodeID: node}, r); err != nil {
				if conf.CodeOf(err) != conf.CodeRateLimited || !strings.Contains(conf.HintOf(err), "cluster remove "+node) {
					t.Fatal(err)
				}
				break
			}
		}
		return n
	}
	for _, tc := range []struct {
		name, node, method, path string
		size                     int64
		least, most              int
	}{
		{"changes", "a", "PUT", "/api/config/services/x", 1, 10_000, 20_000},
		{"reads of the same member", "a", "GET", "/api/config/services/x", 0, 20_000, 60_000},
		{"another member", "b", "PATCH", "/api/config/services/x", 1, 10_000, 20_000},
		{"bytes", "c", "PUT", "/api/config/services/x", 1 << 20, 256, 600},
		{"a size that is not told", "d", "PUT", "/api/config/services/x", -1, 10, 9_000},
		{"other calls", "a", "GET", "/status", 0, 10_000, 20_000},
		{"a path that nobody has", "b", "GET", "/" + strings.Repeat("x", 99), 0, 10_000, 20_000},
		{"renewals", "a", "POST", "/renew", 1, 10, 12},
	} {
		if n := taken(tc.node, tc.method, tc.path, tc.size, tc.most+1); n < tc.least || n > tc.most {
			t.Errorf("%s: %d", tc.name, n)
		}
	}
}
