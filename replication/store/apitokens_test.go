package store

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
)

func apiToken(id, expires string) command.APIToken {
	return command.APIToken{ID: id, Name: "ci", Role: string(conf.RoleRead), SecretHash: hashOf(id), ExpiresAt: expires, CreatedBy: "ann"}
}

func create(seconds int, ts ...command.APIToken) *command.APITokens {
	return &command.APITokens{At: at(seconds), By: "ann", Create: ts}
}

func TestAPITokens(t *testing.T) {
	d := newDriver(t, openNew(t))
	if _, ok := d.s.Queries.APIToken("a1"); ok {
		t.Fatal("a token out of nothing")
	}
	d.ok(create(1, apiToken("a1", at(9)), apiToken("a2", "")))
	d.unchanged(create(2, apiToken("a1", at(9))))
	other := apiToken("a1", at(9))
	other.SecretHash = hashOf("stolen")
	d.rejected(create(2, apiToken("a3", ""), other), conf.CodeConflict, "another API token")
	if _, ok := d.s.Queries.APIToken("a3"); ok {
		t.Error("memory has a token of a rejected entry")
	}
	is, ok := d.s.Queries.APIToken("a1")
	want := conf.APIToken{
		APITokenInfo: conf.APITokenInfo{ID: "a1", Name: "ci", Role: conf.RoleRead, ExpiresAt: at(9), CreatedAt: at(1), CreatedBy: "ann"},
		SecretHash:   hashOf("a1"),
	}
	if !ok || is != want {
		t.Errorf("got %+v, want %+v", is, want)
	}
	d.rejected(&command.APITokens{At: at(3), Revoke: []string{"a1", "a9"}}, conf.CodeNotFound, "a9")
	if is, _ := d.s.Queries.APIToken("a1"); is.Revoked {
		t.Error("memory shows what was rejected")
	}
	d.ok(&command.APITokens{At: at(3), Revoke: []string{"a1"}})
	d.unchanged(&command.APITokens{At: at(4), Revoke: []string{"a1"}})
	if is, _ := d.s.Queries.APIToken("a1"); !is.Revoked {
		t.Error("a revoked token is still in memory")
	}
	if list := d.s.Queries.ListAPITokens(); len(list) != 2 || list[0].ID != "a1" || list[1].ID != "a2" {
		t.Errorf("list: %+v", list)
	}

	// Memory follows a start and a snapshot as it follows the log.
	path := d.s.file.path
	data := streamOf(t, d.s)
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, path)
	other2 := openNew(t)
	newDriver(t, other2).ok(create(1, apiToken("gone", "")))
	if err := other2.Restore(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{"opened": again, "restored": other2} {
		is, ok := s.Queries.APIToken("a1")
		if _, old := s.Queries.APIToken("gone"); old || !ok || !is.Revoked || len(s.Queries.APITokens()) != 2 {
			t.Errorf("%s: %+v", name, s.Queries.APITokens())
		}
	}
	if err := again.w.Exec(t.Context(), "UPDATE api_tokens SET revoked_at = NULL"); err != nil {
		t.Fatal(err)
	}
	if err := again.Verify(t.Context()); conf.CodeOf(err) != conf.CodeCorrupt {
		t.Errorf("a revocation was undone in the file: %v", err)
	}
}

func TestAPITokensAreBounded(t *testing.T) {
	d := newDriver(t, openNew(t))
	var all []command.APIToken
	for i := range apply.MaxAPITokens {
		all = append(all, apiToken(fmt.Sprintf("a%04d", i), at(100+i)))
	}
	d.ok(create(1, all...))
	d.rejected(create(2, apiToken("more", "")), conf.CodeInvalid, "1000 API tokens")
	d.ok(create(101, apiToken("more", "")))
	if _, ok := d.s.Queries.APIToken("a0000"); ok || len(d.s.Queries.APITokens()) != apply.MaxAPITokens {
		t.Error("the one that expired first is kept")
	}
}

func TestRefusalOfAnAPIToken(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		t    conf.APITokenInfo
		want string
	}{
		{conf.APITokenInfo{}, ""},
		{conf.APITokenInfo{ExpiresAt: conf.FormatTime(now.Add(time.Microsecond))}, ""},
		{conf.APITokenInfo{ExpiresAt: conf.FormatTime(now)}, "expired"},
		{conf.APITokenInfo{ExpiresAt: "never"}, "expired"},
		{conf.APITokenInfo{Revoked: true}, "revoked"},
	} {
		if got := tc.t.RejectReason(now); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.t, got, tc.want)
		}
	}
}
