package peers

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// The rows decide on a certificate; a key that is in none of them is asked for, and the
// word of another server counts until the rows have that key.
func TestAdmissions(t *testing.T) {
	l, err := OpenMemberList(filepath.Join(t.TempDir(), "cluster.json"), "self", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	l.onUnknown = func(pki.Peer) { asked++ }
	peer := func(key string, role pki.Role) pki.Peer { return pki.Peer{NodeID: "x", Role: role, Key: key} }
	want := func(what string, p pki.Peer, allowed bool, questions int) {
		t.Helper()
		asked = 0
		if err := l.Allowed(p); (err == nil) != allowed || asked != questions {
			t.Errorf("%s: %v, asked %d times", what, err, asked)
		}
	}
	row := conf.Member{NodeID: "x", Role: conf.MemberServer, JoinedAt: "1"}
	key := func(hash, revoked string) conf.MemberKey {
		return conf.MemberKey{NodeID: "x", KeyHash: hash, Role: conf.MemberServer, RevokedAt: revoked, EndsAt: map[bool]string{true: "9999"}[revoked != ""]}
	}
	want("no row", peer("k1", pki.RoleServer), true, 0)
	l.Set([]conf.Member{row}, nil)
	want("a row without a key", peer("k1", pki.RoleServer), true, 0)
	want("another role", peer("k1", pki.RoleSidecar), false, 1)
	l.Set([]conf.Member{row}, []conf.MemberKey{key("k1", "")})
	want("its key", peer("k1", pki.RoleServer), true, 0)
	want("another key", peer("k2", pki.RoleServer), false, 1)
	l.vouch(peer("k2", pki.RoleServer))
	want("vouched", peer("k2", pki.RoleServer), true, 0)
	want("vouched with another role", peer("k2", pki.RoleSidecar), false, 1)

	l.Set([]conf.Member{row}, []conf.MemberKey{key("k1", "2"), key("k2", "3")})
	want("revoked since", peer("k2", pki.RoleServer), false, 0)
	l.Set([]conf.Member{row}, nil) // a store that was rebuilt
	want("revoked before a rebuild", peer("k1", pki.RoleServer), false, 0)
	want("a row without a key again", peer("k3", pki.RoleServer), true, 0)
	if l.isAdmitted("y", admission{"k", conf.MemberServer}) {
		t.Error("a node without a row counts as admitted")
	}
}
