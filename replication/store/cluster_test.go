package store

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// at is a time of the log, so many seconds after a fixed one.
func at(seconds int) string {
	return conf.FormatTime(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second))
}

func serverToken(id string, uses int) command.JoinToken {
	return command.JoinToken{ID: id, SecretHash: hashOf(id), Role: conf.MemberServer, ExpiresAt: at(100), CreatedBy: "ann", Uses: uses}
}

func tokens(cs ...command.JoinToken) *command.Cluster {
	return &command.Cluster{At: at(0), By: "ann", Tokens: cs}
}

func use(seconds int, token, node, key string) *command.Cluster {
	return &command.Cluster{At: at(seconds), Uses: []command.TokenUse{{TokenID: token, NodeID: node, KeyHash: hashOf(key)}}}
}

func announce(seconds int, m command.Member) *command.Cluster {
	return &command.Cluster{At: at(seconds), Members: []command.Member{m}}
}

func server(id, addr string) command.Member {
	return command.Member{NodeID: id, Role: conf.MemberServer, Addr: addr, Version: "v1"}
}

func removal(seconds int, ids ...string) *command.Cluster {
	return &command.Cluster{At: at(seconds), MemberRemoves: ids}
}

// rejected applies c, which must be rejected with this code and these words, and
// must leave everything as it was.
func (d *driver) rejected(c command.Command, code conf.Code, says string) {
	d.tb.Helper()
	before, digest := content(d.tb, d.s), d.s.Digest()
	res, _ := d.apply(c)
	if res[0].Err == nil || res[0].Err.Code != code || !strings.Contains(res[0].Err.Message, says) {
		d.tb.Fatalf("%+v: got %v, want %s with %q", c, res[0].Err, code, says)
	}
	after := content(d.tb, d.s)
	delete(before, "applied")
	delete(after, "applied")
	same(d.tb, "after a rejection", before, after)
	if d.s.Digest() != digest {
		d.tb.Fatal("a rejection changed the state digest")
	}
}

// unchanged applies c, which must be fine and change nothing.
func (d *driver) unchanged(c command.Command) {
	d.tb.Helper()
	before := d.s.Digest()
	d.ok(c)
	if d.s.Digest() != before {
		d.tb.Fatalf("%+v changed something", c)
	}
}

func (d *driver) member(id string) conf.Member {
	d.tb.Helper()
	all, err := d.s.Queries.Members(d.tb.Context())
	if err != nil {
		d.tb.Fatal(err)
	}
	for _, m := range all {
		if m.NodeID == id {
			return m
		}
	}
	d.tb.Fatalf("no member %s in %v", id, all)
	return conf.Member{}
}

func (d *driver) token(id string) conf.JoinTokenInfo {
	d.tb.Helper()
	jt, info, err := d.s.Queries.JoinToken(d.tb.Context(), id)
	if err != nil || jt.ID != info.ID || jt.SecretHash != hashOf(id) {
		d.tb.Fatalf("token %s: %+v, %v", id, jt, err)
	}
	return info
}

func TestJoin(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(announce(1, server("node-1", "10.0.0.1:2771"))) // the founder has no token
	sidecars := command.JoinToken{ID: "k2", SecretHash: hashOf("k2"), Role: conf.MemberSidecar, Service: "stt-worker"}
	d.ok(tokens(serverToken("k1", 1), sidecars))

	join := use(10, "k1", "node-2", "key-2")
	join.Members = []command.Member{server("node-2", "10.0.0.2:2771")}
	join.Audit = []conf.Access{{UserID: "node-2", Action: "join", Success: true, Timestamp: join.At}}
	d.ok(join)
	want := conf.Member{NodeID: "node-2", Role: conf.MemberServer, Addr: "10.0.0.2:2771", Version: "v1", JoinedAt: at(10)}
	same(t, "member", want, d.member("node-2"))
	same(t, "token", conf.JoinTokenInfo{
		ID: "k1", Role: conf.MemberServer, ExpiresAt: at(100), CreatedBy: "ann", CreatedAt: at(0), Uses: 1, Used: 1,
	}, d.token("k1"))
	if page, err := d.s.Queries.AccessLog(t.Context(), conf.AccessFilter{}); err != nil || page.Total != 1 {
		t.Errorf("access log: %+v, %v", page, err)
	}

	// Admitted, and not seen yet: its id is taken and it can be removed.
	d.ok(use(11, "k2", "node-3", "key-3"))
	same(t, "member", conf.Member{NodeID: "node-3", Role: conf.MemberSidecar, Service: "stt-worker", JoinedAt: at(11)}, d.member("node-3"))
	moved := command.Member{NodeID: "node-3", Role: conf.MemberSidecar, Service: "stt-worker", Addr: "10.0.0.3:2771", Version: "v2"}
	d.ok(announce(12, moved))
	same(t, "member", conf.Member{
		NodeID: "node-3", Role: conf.MemberSidecar, Service: "stt-worker", Addr: "10.0.0.3:2771", Version: "v2", JoinedAt: at(11),
	}, d.member("node-3"))
	d.unchanged(announce(13, moved))

	list, err := d.s.Queries.JoinTokens(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != "k2" || list[1].ID != "k1" {
		t.Errorf("tokens %+v, %v", list, err)
	}
	if _, _, err := d.s.Queries.JoinToken(t.Context(), "k9"); conf.CodeOf(err) != conf.CodeNotFound || conf.HintOf(err) == "" {
		t.Errorf("an unknown token: %v", err)
	}
	if err := d.s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestJoinTokenIsRefused(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(tokens(serverToken("k1", 1), serverToken("k2", 0), serverToken("k3", 0),
		command.JoinToken{ID: "k4", SecretHash: hashOf("k4"), Role: conf.MemberSidecar, Service: "router"}))
	d.ok(&command.Cluster{At: at(1), TokenRevokes: []string{"k2"}})
	d.ok(use(2, "k1", "node-2", "key-2"))

	d.rejected(use(3, "k9", "node-3", "key-3"), conf.CodeDenied, "unknown")
	d.rejected(use(3, "k2", "node-3", "key-3"), conf.CodeDenied, "revoked")
	d.rejected(use(3, "k1", "node-3", "key-3"), conf.CodeDenied, "used up")
	d.ok(use(100, "k3", "node-3", "key-3")) // the last moment
	for _, late := range []string{at(101), "2026-03-01T00:01:40.000001+00:00"} {
		c := use(0, "k3", "node-4", "key-4")
		c.At = late
		d.rejected(c, conf.CodeDenied, "expired")
	}
	// Not even that an id is taken shows without a token that works.
	d.rejected(use(3, "k1", "node-3", "other"), conf.CodeDenied, "used up")

	as := func(m command.Member) *command.Cluster {
		c := use(3, "k4", "node-5", "key-5")
		c.Members = []command.Member{m}
		return c
	}
	d.rejected(as(server("node-5", "")), conf.CodeDenied, "role")
	d.rejected(as(command.Member{NodeID: "node-5", Role: conf.MemberSidecar, Service: "billing"}), conf.CodeDenied, "role")
	d.rejected(as(command.Member{NodeID: "node-5", Role: conf.MemberSidecar}), conf.CodeDenied, "role")
	d.ok(as(command.Member{NodeID: "node-5", Role: conf.MemberSidecar, Service: "router"}))
	d.rejected(use(4, "k3", "node-5", "key-5"), conf.CodeDenied, "role")
	d.rejected(use(4, "k4", "node-3", "key-3"), conf.CodeDenied, "role")

	// All or nothing, the audit rows too.
	c := use(5, "k3", "node-6", "key-6")
	c.Tokens = []command.JoinToken{serverToken("k5", 1)}
	c.Uses = append(c.Uses, command.TokenUse{TokenID: "k9", NodeID: "node-7", KeyHash: hashOf("key-7")})
	c.Audit = []conf.Access{{UserID: "node-6", Action: "join", Success: true, Timestamp: c.At}}
	d.rejected(c, conf.CodeDenied, "unknown")
}

func TestRetryOfAJoinCountsOnce(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(tokens(serverToken("k1", 2)))
	d.ok(use(1, "k1", "node-2", "key-2"))
	d.unchanged(use(2, "k1", "node-2", "key-2"))
	if got := d.token("k1"); got.Used != 1 {
		t.Fatalf("used %d times", got.Used)
	}
	d.ok(use(3, "k1", "node-3", "key-3"))
	d.rejected(use(4, "k1", "node-4", "key-4"), conf.CodeDenied, "used up")
	// Who was admitted and lost the answer gets it, whatever became of the token.
	d.unchanged(use(200, "k1", "node-2", "key-2"))
	d.ok(&command.Cluster{At: at(201), TokenRevokes: []string{"k1"}})
	d.unchanged(use(202, "k1", "node-2", "key-2"))
	// Another token of the same kind is a use of that one.
	d.ok(tokens(serverToken("k2", 1)))
	d.ok(use(5, "k2", "node-2", "key-2"))
	if got := d.token("k2"); got.Used != 1 {
		t.Fatalf("used %d times", got.Used)
	}
	same(t, "member", at(1), d.member("node-2").JoinedAt)

	for token, want := range map[string][]string{"k1": {"node-2", "node-3"}, "k2": {"node-2"}, "k9": {}} {
		got := []string{}
		err := tables.Each(t.Context(), d.s.reads, tables.NewDigester(), tables.JoinUses, func(r *tables.Row) error {
			if node := r.Text(1); r.Text(0) == token {
				if r.Text(2) != hashOf(strings.Replace(node, "node", "key", 1)) {
					t.Errorf("%s used %s with the key %s", node, token, r.Text(2))
				}
				got = append(got, node)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "uses of "+token, want, got)
	}

	// Both in one entry and in one batch.
	d.ok(tokens(serverToken("k3", 1)))
	c := use(6, "k3", "node-5", "key-5")
	c.Uses = append(c.Uses, c.Uses[0])
	res, _ := d.apply(c, use(6, "k3", "node-5", "key-5"), use(6, "k3", "node-6", "key-6"))
	if res[0].Err != nil || res[1].Err != nil || res[2].Err == nil || res[2].Err.Code != conf.CodeDenied {
		t.Fatalf("results %+v", res)
	}
}

func TestNodeIDIsTaken(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(announce(1, server("node-1", "10.0.0.1:2771")))
	d.ok(tokens(serverToken("k1", 0), serverToken("k2", 1)))
	d.rejected(use(2, "k1", "node-1", "key-x"), conf.CodeConflict, "node-1 is taken")
	d.ok(use(3, "k1", "node-2", "key-2"))
	d.rejected(use(4, "k1", "node-2", "key-x"), conf.CodeConflict, "node-2 is taken")

	// A removed member's id is free, and its own retry does not bring it back on a
	// token that does not work any more.
	d.ok(use(5, "k2", "node-3", "key-3"))
	d.ok(removal(6, "node-2", "node-3"))
	d.unchanged(removal(7, "node-2"))
	if got := d.member("node-3"); got.RemovedAt != at(6) {
		t.Fatalf("%+v", got)
	}
	d.rejected(use(8, "k2", "node-3", "key-3"), conf.CodeDenied, "used up")
	d.rejected(announce(8, server("node-3", "10.0.0.3:2771")), conf.CodeDenied, "was removed")
	d.ok(use(9, "k1", "node-2", "key-2"))
	same(t, "joined again", conf.Member{NodeID: "node-2", Role: conf.MemberServer, JoinedAt: at(9)}, d.member("node-2"))
	if got := d.token("k1"); got.Used != 2 {
		t.Errorf("used %d times", got.Used)
	}
	d.ok(use(10, "k1", "node-3", "new-key-3"))
	d.rejected(use(11, "k1", "node-3", "key-3"), conf.CodeConflict, "taken")

	// One entry replaces a node.
	c := use(12, "k1", "node-3", "newest-key-3")
	c.MemberRemoves = []string{"node-3"}
	d.ok(c)
	same(t, "replaced", conf.Member{NodeID: "node-3", Role: conf.MemberServer, JoinedAt: at(12)}, d.member("node-3"))
	d.rejected(removal(13, "node-9"), conf.CodeNotFound, "node-9")
}

func TestMemberKeepsItsRole(t *testing.T) {
	d := newDriver(t, openNew(t))
	any1 := command.JoinToken{ID: "k1", SecretHash: hashOf("k1"), Role: conf.MemberSidecar}
	d.ok(tokens(any1, serverToken("k2", 1)))
	d.ok(use(1, "k1", "node-2", "key-2"))
	d.ok(use(1, "k2", "node-3", "key-3"))
	sidecar := command.Member{NodeID: "node-2", Role: conf.MemberSidecar, Service: "router"}
	d.ok(announce(2, sidecar)) // the token left it open
	d.rejected(announce(3, server("node-2", "")), conf.CodeDenied, "sidecar")
	sidecar.Service = "billing"
	d.rejected(announce(3, sidecar), conf.CodeDenied, "router")

	srv := server("node-3", "10.0.0.3:2771")
	d.ok(announce(4, srv))
	srv.Service, srv.Addr, srv.Version = "router", "10.0.0.33:2771", "v2"
	d.ok(announce(5, srv))
	srv.Service = "billing" // says only what runs beside it
	d.ok(announce(6, srv))
	same(t, "server", conf.Member{
		NodeID: "node-3", Role: conf.MemberServer, Service: "billing", Addr: "10.0.0.33:2771", Version: "v2", JoinedAt: at(1),
	}, d.member("node-3"))
}

func TestTokensAgain(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(tokens(serverToken("k1", 3)))
	d.ok(use(1, "k1", "node-2", "key-2"))
	d.unchanged(tokens(serverToken("k1", 3))) // does not begin to count again
	d.rejected(tokens(serverToken("k1", 4)), conf.CodeConflict, "k1")
	other := serverToken("k1", 3)
	other.SecretHash = hashOf("other")
	d.rejected(tokens(other), conf.CodeConflict, "k1")
	d.ok(&command.Cluster{At: at(2), TokenRevokes: []string{"k1"}})
	d.unchanged(&command.Cluster{At: at(3), TokenRevokes: []string{"k1"}})
	d.rejected(&command.Cluster{At: at(3), TokenRevokes: []string{"k9"}}, conf.CodeNotFound, "k9")
	if got := d.token("k1"); !got.Revoked || got.Used != 1 {
		t.Errorf("%+v", got)
	}
}

func TestTokensAreBounded(t *testing.T) {
	d := newDriver(t, openNew(t))
	var all []command.JoinToken
	for i := range apply.MaxJoinTokens {
		all = append(all, serverToken(fmt.Sprintf("k%04d", i), 1))
	}
	d.ok(tokens(all...))
	d.rejected(tokens(serverToken("more", 1)), conf.CodeInvalid, "1000 join tokens")
	d.ok(use(1, "k0500", "node-2", "key-2"))
	d.ok(use(1, "k0700", "node-3", "key-3"))
	d.ok(tokens(serverToken("more", 1)))
	if _, _, err := d.s.Queries.JoinToken(t.Context(), "k0500"); conf.CodeOf(err) != conf.CodeNotFound {
		t.Errorf("the oldest that is used up: %v", err)
	}
	d.token("k0700")
	d.rejected(use(2, "k0500", "node-2", "key-2"), conf.CodeDenied, "unknown")
	var n int
	if err := d.s.w.QueryRowContext(t.Context(), "SELECT count(*) FROM join_uses").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d uses, %v", n, err)
	}
	if err := d.s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// Every table and the state digest must carry the cluster, through a snapshot too.
func TestClusterIsReplicated(t *testing.T) {
	a, b := openNew(t), openNew(t)
	da, db := newDriver(t, a), newDriver(t, b)
	cmds := []command.Command{
		tokens(serverToken("k1", 0)), announce(1, server("node-1", "10.0.0.1:2771")), use(2, "k1", "node-2", "key-2"),
		use(3, "k9", "node-3", "key-3"), use(3, "k1", "node-3", "key-3"), removal(4, "node-3"),
		&command.Cluster{At: at(5), TokenRevokes: []string{"k1"}},
	}
	digests := map[string]bool{a.Digest(): true}
	for _, c := range cmds {
		if res, _ := da.apply(c); res[0].Err == nil && digests[a.Digest()] {
			t.Errorf("%+v is not in the state digest", c)
		}
		digests[a.Digest()] = true
	}
	db.apply(cmds...) // in one batch
	same(t, "another batching", content(t, a), content(t, b))

	c := openNew(t)
	data := streamOf(t, a)
	if err := c.Restore(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	same(t, "restored", content(t, a), content(t, c))
	if !bytes.Contains(data, []byte(hashOf("k1"))) {
		t.Error("a restored member could not check the token: its hash is not in the snapshot")
	}
	dc := newDriver(t, c)
	dc.unchanged(use(6, "k1", "node-2", "key-2"))

	for _, tab := range []*tables.Table{tables.Members, tables.JoinTokens, tables.JoinUses} {
		s := openNew(t)
		if err := s.Restore(t.Context(), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		last := tab.Cols[len(tab.Key)]
		if err := s.w.Exec(t.Context(), "UPDATE "+tab.Name+" SET "+last+" = 'x'"); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context()); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("a changed row of %s: %v", tab.Name, err)
		}
	}
}

func TestDamagedTokenIsNotUsed(t *testing.T) {
	d := newDriver(t, openNew(t))
	d.ok(tokens(serverToken("k1", 1)))
	d.ok(use(1, "k1", "node-2", "key-2"))
	if err := d.s.w.Exec(t.Context(), "UPDATE join_tokens SET used = 0"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.s.Queries.JoinTokens(t.Context()); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("JoinTokens: %v", err)
	}
	if _, _, err := d.s.Queries.JoinToken(t.Context(), "k1"); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("JoinToken: %v", err)
	}
	if _, _, err := d.s.Apply(t.Context(), d.entries(use(2, "k1", "node-3", "key-3"))); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("Apply: %v", err)
	}
}

// For what a sidecar was admitted is the word of the token that let it in, and of
// that admission only.
func TestJoinedForService(t *testing.T) {
	d := newDriver(t, openNew(t))
	of := func(id, service string) command.JoinToken {
		return command.JoinToken{ID: id, SecretHash: hashOf(id), Role: conf.MemberSidecar, Service: service}
	}
	d.ok(tokens(of("k1", "router"), of("k2", ""), of("k3", "billing"), serverToken("k4", 1)))
	says := func(node, service string) command.Member {
		return command.Member{NodeID: node, Role: conf.MemberSidecar, Service: service, Addr: "10.0.0.9:2771", Version: "v1"}
	}
	want := func(what, node, service string) {
		t.Helper()
		if got, err := d.s.Queries.JoinedForService(t.Context(), node); got != service || err != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	want("nobody", "node-1", "")
	d.ok(use(1, "k1", "node-1", "key-1"))
	want("by its token", "node-1", "router")
	d.ok(announce(2, says("node-1", "router")))
	want("announced", "node-1", "router")
	d.ok(&command.Cluster{At: at(3), TokenRevokes: []string{"k1"}})
	want("by a token that lets in nobody else", "node-1", "router")

	d.ok(use(4, "k2", "node-2", "key-2"))
	d.ok(announce(5, says("node-2", "router")))
	want("by its own word", "node-2", "")
	d.ok(use(6, "k4", "node-3", "key-3"))
	srv := server("node-3", "10.0.0.3:2771")
	srv.Service = "router"
	d.ok(announce(7, srv))
	want("a server", "node-3", "")
	d.ok(announce(7, says("node-4", "router")))
	want("by no token", "node-4", "")

	d.ok(use(8, "k3", "node-5", "key-5"))
	d.ok(removal(9, "node-5"))
	want("removed", "node-5", "")
	d.ok(use(10, "k2", "node-5", "key-5"))
	d.ok(announce(11, says("node-5", "billing")))
	want("admitted again, for no service", "node-5", "")
}
