package client_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func keyPair(n byte) (ed25519.PrivateKey, ed25519.PublicKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return private, private.Public().(ed25519.PublicKey)
}

func pemOf(t *testing.T, pub any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func signedUpdate(t *testing.T, private ed25519.PrivateKey) []byte {
	t.Helper()
	u := seal.NewSigner(private).Sign("router", []byte(`{"a":1.5,"b":"x|y"}`), "550e8400-e29b-41d4-a716-446655440000", time.Unix(1e9, 0))
	data, err := seal.EncodeUpdate(u)
	check(t, err)
	return data
}

func TestVerifyUpdate(t *testing.T) {
	t.Parallel()
	private, public := keyPair(1)
	_, other := keyPair(2)
	data := signedUpdate(t, private)
	u, err := client.VerifyUpdate(data, other, public)
	check(t, err)
	if u.Service != "router" || string(u.Config) != `{"a":1.5,"b":"x|y"}` {
		t.Errorf("verified %+v", u)
	}
	if id, err := client.SignedBy(u, other, public); err != nil || id != seal.KeyID(public) {
		t.Errorf("signed by %q, %v", id, err)
	}

	text := string(data)
	for name, c := range map[string]struct {
		data string
		keys []ed25519.PublicKey
		want conf.Code
	}{
		"no key":           {text, nil, conf.CodeUsage},
		"other key":        {text, []ed25519.PublicKey{other}, conf.CodeDenied},
		"other service":    {strings.Replace(text, `"router"`, `"ui-web"`, 1), nil, conf.CodeDenied},
		"other epoch":      {strings.Replace(text, "550e", "551e", 1), nil, conf.CodeDenied},
		"later":            {strings.Replace(text, "2001-", "2031-", 1), nil, conf.CodeDenied},
		"other value":      {strings.Replace(text, "1.5", "2.5", 1), nil, conf.CodeCorrupt},
		"truncated":        {text[:len(text)-9], nil, conf.CodeMalformed},
		"empty":            {"", nil, conf.CodeMalformed},
		"unsigned":         {text[:strings.Index(text, `,"signature"`)] + "}", nil, conf.CodeMalformed},
		"one member more":  {strings.Replace(text, `{"version"`, `{"x":1,"version"`, 1), nil, conf.CodeMalformed},
		"space before":     {" " + text, nil, conf.CodeCorrupt},
		"space within":     {strings.Replace(text, `,"b"`, `, "b"`, 1), nil, conf.CodeCorrupt},
		"another order":    {strings.Replace(text, `"a":1.5,"b":"x|y"`, `"b":"x|y","a":1.5`, 1), nil, conf.CodeCorrupt},
		"another spelling": {strings.Replace(text, "1.5", "1.50", 1), nil, conf.CodeCorrupt},
		"escaped":          {strings.Replace(text, `x|y`, `\u0078|y`, 1), nil, conf.CodeCorrupt},
	} {
		if c.data == text && name != "no key" && name != "other key" {
			t.Fatalf("%s changes nothing", name)
		}
		keys := c.keys
		if keys == nil && name != "no key" {
			keys = []ed25519.PublicKey{public}
		}
		u, err := client.VerifyUpdate([]byte(c.data), keys...)
		if conf.CodeOf(err) != c.want || u.Service != "" {
			t.Errorf("%s: got %+v, %v (%s), want %s", name, u, err, conf.CodeOf(err), c.want)
		}
	}
}

// No change of one byte passes.
func TestVerifyUpdateMutated(t *testing.T) {
	t.Parallel()
	private, public := keyPair(1)
	data := signedUpdate(t, private)
	for i := range data {
		for _, b := range []byte{data[i] ^ 1, data[i] ^ 0x20, ' ', '"', 0} {
			if b == data[i] {
				continue
			}
			bad := bytes.Clone(data)
			bad[i] = b
			if _, err := client.VerifyUpdate(bad, public); err == nil {
				t.Fatalf("accepted %s", bad)
			}
		}
		if _, err := client.VerifyUpdate(data[:i], public); err == nil {
			t.Fatalf("accepted %s", data[:i])
		}
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	_, one := keyPair(1)
	_, two := keyPair(2)
	b64 := base64.StdEncoding.EncodeToString
	list, err := json.Marshal(map[string]any{"keys": []map[string]string{{"public_key": b64(one)}, {"public_key": b64(two)}}})
	check(t, err)
	for name, c := range map[string]struct {
		text string
		want []ed25519.PublicKey
	}{
		"base64":        {b64(one) + "\n", []ed25519.PublicKey{one}},
		"base64 lines":  {"# ours\n" + b64(one) + "\n\n" + b64(two), []ed25519.PublicKey{one, two}},
		"pem":           {pemOf(t, one), []ed25519.PublicKey{one}},
		"pem of a .env": {`"` + strings.ReplaceAll(pemOf(t, one), "\n", `\n`) + `"`, []ed25519.PublicKey{one}},
		"pem without a line end": {
			strings.TrimSpace(pemOf(t, one)), []ed25519.PublicKey{one},
		},
		"two pem":   {pemOf(t, one) + pemOf(t, two), []ed25519.PublicKey{one, two}},
		"/v1/keys":  {string(list), []ed25519.PublicKey{one, two}},
		"empty":     {"", nil},
		"comment":   {"# nothing\n", nil},
		"no keys":   {`{"keys":[]}`, nil},
		"not json":  {`{"keys":`, nil},
		"short":     {b64(one[:31]), nil},
		"words":     {"trust me", nil},
		"private":   {strings.ReplaceAll(pemOf(t, one), "PUBLIC", "PRIVATE"), nil},
		"damaged":   {strings.Replace(pemOf(t, one), "MC", "M!", 1) + pemOf(t, two), nil},
		"truncated": {pemOf(t, one)[:60], nil},
	} {
		got, err := client.ParseKeys([]byte(c.text))
		if c.want == nil {
			if conf.CodeOf(err) != conf.CodeUsage {
				t.Errorf("%s: got %d keys, %v", name, len(got), err)
			}
			continue
		}
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: got %d keys, %v", name, len(got), err)
			continue
		}
		for i := range got {
			if !got[i].Equal(c.want[i]) {
				t.Errorf("%s: key %d is another", name, i)
			}
		}
	}

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/keys" {
			_, _ = w.Write(list)
		}
	}))
	t.Cleanup(srv.Close)
	c := newClient(t, client.Options{LocalURL: srv.URL})
	if keys, err := c.PublicKeys(t.Context()); err != nil || len(keys) != 2 {
		t.Errorf("the agent's keys: %d, %v", len(keys), err)
	}
}
