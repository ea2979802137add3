package transport_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

func TestToken(t *testing.T) {
	hash := newCluster(t, "blue").ca.Hash()
	a, b := transport.NewToken(hash), transport.NewToken(hash)
	if a.Secret == b.Secret || a.ID == b.ID {
		t.Fatal("two tokens are alike")
	}
	s := a.String()
	if s != "HF1"+hash+"::"+a.ID+":"+a.Secret || len(a.Secret) != 43 {
		t.Errorf("token %s", s)
	}
	if back := must(transport.ParseToken(s))(t); back != a {
		t.Errorf("%v came back", back)
	}
	last := s[len(s)-1]
	for name, bad := range map[string]string{
		"nothing": "", "cut off": s[:len(s)-1], "longer": s + "A", "a space": s + " ", "a line break": s + "\n",
		"other version": "HF2" + s[3:], "upper-case hash": "HF1" + strings.ToUpper(hash) + s[67:], "one colon": strings.Replace(s, "::", ":", 1),
		"padding": s + "=", "bits that do not count": s[:len(s)-1] + string(last+1), "prefix only": "HF1",
	} {
		if _, err := transport.ParseToken(bad); conf.CodeOf(err) != conf.CodeUsage || conf.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "token", a)
	if strings.Contains(log.String(), a.Secret) {
		t.Errorf("the secret is in the log: %s", &log)
	}
}

func TestJoinTokenCheck(t *testing.T) {
	now := time.Now()
	tok := transport.NewToken(strings.Repeat("0", 64))
	fresh := func(change func(*joinToken)) *joinToken {
		s := storedToken(tok, pki.RoleSidecar, "db", time.Hour, 1, "alice", now)
		if change != nil {
			change(&s)
		}
		return &s
	}
	used := func(s *joinToken) { *s = s.withClaim(claim{KeyHash: "k1", NodeID: "n1"}) }
	texts := map[string]bool{}
	for name, tc := range map[string]struct {
		stored *joinToken
		secret string
		key    string
		at     time.Time
		reason transport.TokenReason // "" = accepted
	}{
		"good":             {fresh(nil), tok.Secret, "k1", now, ""},
		"the last moment":  {fresh(nil), tok.Secret, "k1", now.Add(time.Hour - time.Second), ""},
		"a retry":          {fresh(used), tok.Secret, "k1", now, ""},
		"used by another":  {fresh(used), tok.Secret, "k2", now, transport.TokenUsed},
		"unknown":          {nil, tok.Secret, "k1", now, transport.TokenUnknown},
		"another secret":   {fresh(nil), transport.NewToken("").Secret, "k1", now, transport.TokenForged},
		"the stored hash":  {fresh(nil), transport.HashSecret(tok.Secret), "k1", now, transport.TokenForged},
		"no secret":        {fresh(nil), "", "k1", now, transport.TokenForged},
		"expired":          {fresh(nil), tok.Secret, "k1", now.Add(time.Hour + time.Second), transport.TokenExpired},
		"a retry, expired": {fresh(used), tok.Secret, "k1", now.Add(2 * time.Hour), transport.TokenExpired},
		"a damaged end":    {fresh(func(s *joinToken) { s.Expires = "soon" }), tok.Secret, "k1", now, transport.TokenExpired},
		"revoked":          {fresh(func(s *joinToken) { s.Revoked = true }), tok.Secret, "k1", now, transport.TokenRevoked},
		"for ever":         {fresh(func(s *joinToken) { s.Expires = "" }), tok.Secret, "k1", now.AddDate(50, 0, 0), ""},
		"any number": {fresh(func(s *joinToken) {
			s.Uses = 0
			used(s)
		}), tok.Secret, "k9", now, ""},
	} {
		err := tc.stored.check(tc.secret, tc.key, tc.at)
		if tc.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		te, ok := err.(*transport.TokenError)
		if !ok || te.Reason != tc.reason {
			t.Errorf("%s: %#v", name, err)
			continue
		}
		if conf.CodeOf(err) != conf.CodeDenied {
			t.Errorf("%s: code %s", name, conf.CodeOf(err))
		}
		texts[err.Error()+"|"+conf.HintOf(err)] = true
	}
	if len(texts) != 1 {
		t.Errorf("the refusals differ: %v", texts)
	}
}

func TestWithClaim(t *testing.T) {
	a := joinToken{Uses: 2}
	b := a.withClaim(claim{KeyHash: "k1"})
	c := b.withClaim(claim{KeyHash: "k1"})
	d := b.withClaim(claim{KeyHash: "k2"})
	e := b.withClaim(claim{KeyHash: "k3"})
	if len(a.Claims) != 0 || len(b.Claims) != 1 || len(c.Claims) != 1 || len(d.Claims) != 2 || d.Claims[1].KeyHash != "k2" || e.Claims[1].KeyHash != "k3" {
		t.Errorf("claims %v %v %v %v %v", a.Claims, b.Claims, c.Claims, d.Claims, e.Claims)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(transport.NewToken(strings.Repeat("a1", 32)).String())
	f.Add("HF1::")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := transport.ParseToken(s)
		if err != nil {
			if conf.CodeOf(err) != conf.CodeUsage || len(err.Error()) > 200 {
				t.Fatalf("%v", err)
			}
			return
		}
		if tok.String() != s {
			t.Fatalf("%q is also spelled %q", tok, s)
		}
	})
}

func FuzzDecodeJoinRequest(f *testing.F) {
	f.Add([]byte(`{"token_id":"x","secret":"y","csr":"AAAA","node_id":"n","version":"1","advertise":"a:1"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := transport.DecodeJoinRequest(body)
		switch conf.CodeOf(err) {
		case "":
			if r.KeyHash() == "" || conf.CheckNode(r.NodeID) != nil {
				t.Fatalf("accepted %+v", r)
			}
		case conf.CodeMalformed, conf.CodeInvalid, conf.CodeTooLarge:
		default:
			t.Fatalf("%v", err)
		}
	})
}
