package store

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/stream"
)

// keyed is a member with a key that the cluster accepts for it.
func keyed(m command.Member, key string) command.Member {
	m.KeyHash = hashOf(key)
	return m
}

// keys are the keys of a node: accepted, and revoked.
func (d *driver) keys(node string) (accepted, revoked []string) {
	d.tb.Helper()
	all, err := d.s.Queries.MemberKeys(d.tb.Context())
	if err != nil {
		d.tb.Fatal(err)
	}
	for _, k := range all {
		switch {
		case k.NodeID != node:
		case k.RevokedAt == "":
			accepted = append(accepted, k.KeyHash)
		default:
			revoked = append(revoked, k.KeyHash)
		}
	}
	return accepted, revoked
}

func (d *driver) wantKeys(what, node string, accepted, revoked []string) {
	d.tb.Helper()
	a, r := d.keys(node)
	if len(a) != len(accepted) || len(r) != len(revoked) {
		d.tb.Fatalf("%s: accepted %v, revoked %v", what, a, r)
	}
	for _, list := range []struct{ got, want []string }{{a, accepted}, {r, revoked}} {
		for _, key := range list.want {
			if !strings.Contains(strings.Join(list.got, " "), hashOf(key)) {
				d.tb.Fatalf("%s: %s is not among %v", what, key, list.got)
			}
		}
	}
}

// The keys of a removed member stay revoked when another agent gets its id, whatever the
// role, and are forgotten when no certificate for them can be valid any more.
func TestKeysOfARemovedMemberStayRevoked(t *testing.T) {
	d := newDriver(t, openNew(t))
	side := command.Member{NodeID: "x", Role: conf.MemberSidecar, Service: "stt-worker", Addr: "10.0.0.2:2771"}
	d.ok(announce(1, keyed(server("x", "10.0.0.2:2771"), "first")))
	d.unchanged(announce(2, keyed(server("x", "10.0.0.2:2771"), "first")))
	d.unchanged(announce(2, server("x", "10.0.0.2:2771")))
	d.wantKeys("admitted", "x", []string{"first"}, nil)
	d.ok(removal(3, "x"))
	d.wantKeys("removed", "x", nil, []string{"first"})

	d.ok(tokens(serverToken("k1", 0), command.JoinToken{ID: "k2", SecretHash: hashOf("k2"), Role: conf.MemberSidecar, Service: "stt-worker"}))
	again := use(4, "k1", "x", "first")
	again.Members = []command.Member{keyed(server("x", "10.0.0.2:2771"), "first")}
	d.rejected(again, conf.CodeConflict, "revoked")
	join := use(5, "k2", "x", "second")
	join.Members = []command.Member{keyed(side, "second")}
	d.ok(join)
	d.wantKeys("admitted again", "x", []string{"second"}, []string{"first"})
	d.rejected(announce(6, keyed(side, "first")), conf.CodeConflict, "revoked")
	same(t, "role", conf.MemberSidecar, d.member("x").Role)

	// Another member may have the same key: an agent that lost its log keeps its own.
	d.ok(announce(7, keyed(server("x-r2", "10.0.0.3:2771"), "first")))
	d.ok(announce(int(conf.RevokedFor.Seconds())+2, server("y", "10.0.0.4:2771")))
	d.wantKeys("in its time", "x", []string{"second"}, []string{"first"})
	d.ok(announce(int(conf.RevokedFor.Seconds())+4, server("z", "10.0.0.5:2771")))
	d.wantKeys("after its time", "x", []string{"second"}, nil)
	d.wantKeys("of another member", "x-r2", []string{"first"}, nil)
}

// A member of an earlier build makes a new key for each certificate.
func TestAMemberHasTwoKeysAtMost(t *testing.T) {
	d := newDriver(t, openNew(t))
	for i, key := range []string{"k1", "k2", "k3"} {
		d.ok(announce(i+1, keyed(server("x", "10.0.0.2:2771"), key)))
	}
	d.wantKeys("the third", "x", []string{"k2", "k3"}, []string{"k1"})
	d.ok(removal(9, "x"))
	d.wantKeys("removed", "x", nil, []string{"k1", "k2", "k3"})
}

// A file and a snapshot of an earlier build have no keys of members. As long as there are
// none, such a build reads what this one writes.
func TestMemberKeysComeLater(t *testing.T) {
	snapshot := func(s *Store) string {
		sn, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer sn.Close()
		var b bytes.Buffer
		if _, err := sn.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	d := newDriver(t, openNew(t))
	d.ok(announce(1, server("x", "10.0.0.2:2771")))
	path, digest := d.s.file.path, d.s.Digest()
	older := snapshot(d.s)
	if strings.Contains(older, "member_keys") {
		t.Fatal("a snapshot without keys has their table")
	}
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "DROP TABLE member_keys")
	s, err := Open(t.Context(), testOptions(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if s.Digest() != digest {
		t.Error("the table changed the digest")
	}
	d.s = s
	d.ok(announce(2, keyed(server("x", "10.0.0.2:2771"), "first")))
	newer := snapshot(s)

	other := newDriver(t, openNew(t))
	for _, c := range []struct {
		stream string
		keys   []string
	}{{newer, []string{"first"}}, {older, nil}} {
		if err := other.s.Restore(t.Context(), strings.NewReader(c.stream)); err != nil {
			t.Fatal(err)
		}
		other.wantKeys("restored", "x", c.keys, nil)
	}
	if _, err := stream.Check(&bytes.Buffer{}, strings.NewReader(newer)); err != nil {
		t.Error(err)
	}
}
