package keys_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestSetNeverShowsKeys(t *testing.T) {
	set, _, err := keys.Load(noEnv, filepath.Join(t.TempDir(), ".env"), keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, v := range []any{set, &set, set.Tokens, set.Tokens[0], &set.Tokens[0], struct{ S keys.Set }{set}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(raw)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	text := out.String()
	if !strings.Contains(text, set.MasterID) || !strings.Contains(text, set.Tokens[0].Principal.Name) {
		t.Fatalf("does not name the keys: %s", text)
	}
	secrets := []string{set.RebuildToken, set.Tokens[0].Token, set.Tokens[1].Token}
	for _, b := range [][]byte{set.Master, set.HMAC, set.Private, set.Private.Seed()} {
		secrets = append(secrets, string(b), hex.EncodeToString(b)[:12], strings.ToUpper(hex.EncodeToString(b))[:12],
			base64.StdEncoding.EncodeToString(b)[:12], strings.Trim(fmt.Sprint(b[:5]), "[]"), fmt.Sprintf("%#v", b[:3])[7:15])
	}
	for _, s := range secrets {
		if strings.Contains(text, s) || strings.Contains(text, hex.EncodeToString([]byte(s))) {
			t.Fatalf("shows a secret: %s", text)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	set, _, err := keys.Load(envOf(full(t)), "", keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := keys.NewAuthenticator(set.Tokens)
	for _, c := range []struct {
		token string
		want  conf.Principal
		ok    bool
	}{
		{"readonly-token", conf.Principal{Name: "token-9c2a69b7", Role: conf.RoleRead}, true},
		{"admin-token", conf.Principal{Name: "token-10a4c7c9", Role: conf.RoleWrite}, true},
		{"", conf.Principal{}, false},
		{"admin-toke", conf.Principal{}, false},
		{"admin-token ", conf.Principal{}, false},
		{"ADMIN-TOKEN", conf.Principal{}, false},
	} {
		if got, ok := a.Authenticate(c.token); ok != c.ok || got != c.want {
			t.Errorf("%q: got %+v, %v", c.token, got, ok)
		}
	}
	if _, ok := keys.NewAuthenticator(nil).Authenticate("x"); ok {
		t.Error("no tokens authenticate")
	}
	if (keys.Set{}).AllowsRebuild("") {
		t.Error("an empty rebuild token allows")
	}
}

func TestTokenWithColons(t *testing.T) {
	env := full(t)
	env[keys.EnvAPITokens] = "a:b:c:config.write"
	set, _, err := keys.Load(envOf(env), "", keys.Options{})
	if err != nil || set.Tokens[0].Token != "a:b:c" {
		t.Fatalf("%v", err)
	}
}
