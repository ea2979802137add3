package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func testMaster(n int) []byte {
	return bytes.Repeat([]byte{byte(n), 7, 1, 9}, 8)
}

// goldenSecret is one row of testdata/secret.json: enough for another
// implementation to test itself against.
type goldenSecret struct {
	MasterHex string `json:"master_hex"`
	Epoch     string `json:"epoch"`
	Service   string `json:"service"`
	Key       string `json:"key"`
	KeyID     string `json:"key_id"`
	Derived   string `json:"derived_hex"`
	NonceHex  string `json:"nonce_hex"`
	Plain     string `json:"plain"`
	Encrypted string `json:"encrypted_value"`
}

func TestSecretGolden(t *testing.T) {
	cases := []goldenSecret{
		{
			MasterHex: hex.EncodeToString(testMaster(1)), Epoch: "550e8400-e29b-41d4-a716-446655440000", Service: "stt-worker", Key: "db.password",
			KeyID: "6f1c1a9e-7d0e-4f3a-9c53-0d7a0a3b9f11", NonceHex: "000102030405060708090a0b", Plain: `"s3cr\"et é"`,
		},
		{
			MasterHex: hex.EncodeToString(testMaster(2)), Epoch: "e", Service: "a", Key: "k", KeyID: "m", NonceHex: "ffffffffffffffffffffffff", Plain: ``,
		},
	}
	for i := range cases {
		c := &cases[i]
		master, _ := hex.DecodeString(c.MasterHex)
		derived, err := Derive(master, c.Service, c.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		nonce, _ := hex.DecodeString(c.NonceHex)
		c.Derived = hex.EncodeToString(derived)
		if c.Encrypted, err = sealSecret(derived, c.id(), nonce, []byte(c.Plain)); err != nil {
			t.Fatal(err)
		}
		plain, err := OpenSecret(derived, c.id(), c.Encrypted)
		if err != nil || string(plain) != c.Plain {
			t.Fatalf("opened %q, %v", plain, err)
		}
	}
	got, err := json.MarshalIndent(cases, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "secret.json")
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got)+"\n" {
		t.Errorf("the form of a sealed secret changed: what is stored would not open any more\n got %s\nwant %s", got, want)
	}
}

func (g goldenSecret) id() SecretID {
	return SecretID{Epoch: g.Epoch, Service: g.Service, Key: g.Key, KeyID: g.KeyID}
}

// All pairs of 200 sealed secrets swapped: none opens in the place of another,
// with the key of either place, nor under another epoch or key id.
func TestSwappedSecretsDoNotOpen(t *testing.T) {
	const n = 200
	type sealed struct {
		id      SecretID
		derived []byte
		text    string
	}
	all := make([]sealed, n)
	for i := range all {
		// Names that would run into each other without lengths before them.
		id := SecretID{Epoch: fmt.Sprintf("e%d", i%2), Service: strings.Repeat("a", 1+i%5), Key: strings.Repeat("a", 1+i/5%5) + fmt.Sprint(i/25), KeyID: fmt.Sprintf("m%d", i/2%3)}
		derived, err := Derive(testMaster(1), id.Service, id.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := SealSecret(derived, id, []byte("same"))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = sealed{id, derived, text}
	}
	opened, own := 0, 0
	for i := range all {
		for j := range all {
			for _, key := range [][]byte{all[i].derived, all[j].derived} {
				plain, err := OpenSecret(key, all[i].id, all[j].text)
				switch {
				case i == j && err == nil && string(plain) == "same":
					own++
				case i == j:
					t.Fatalf("%+v does not open in its own place: %v", all[i].id, err)
				case err == nil:
					opened++
					t.Errorf("the value of %+v opens as %+v", all[j].id, all[i].id)
				case conf.CodeOf(err) != conf.CodeCorrupt:
					t.Fatal(err)
				}
			}
		}
	}
	if own != 2*n {
		t.Errorf("%d of %d opened in their own place", own, 2*n)
	}
	t.Logf("%d pairs swapped, %d opened", n*(n-1), opened)
}

func TestOpenSecretRefuses(t *testing.T) {
	id := SecretID{Epoch: "e", Service: "a", Key: "k", KeyID: "m"}
	derived, err := Derive(testMaster(1), "a", "m")
	if err != nil {
		t.Fatal(err)
	}
	text, err := SealSecret(derived, id, []byte("topsecret"))
	if err != nil {
		t.Fatal(err)
	}
	again, _ := SealSecret(derived, id, []byte("topsecret"))
	if again == text {
		t.Error("the same value sealed twice looks the same: the nonce is not random")
	}
	if strings.Contains(text, "topsecret") {
		t.Error("the value stands in the sealed text")
	}
	raw, _ := base64.StdEncoding.DecodeString(text)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := OpenSecret(derived, id, base64.StdEncoding.EncodeToString(bad)); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
	}
	other, _ := Derive(testMaster(2), "a", "m")
	for name, c := range map[string]struct {
		key  []byte
		id   SecretID
		text string
	}{
		"other master":  {other, id, text},
		"other epoch":   {derived, SecretID{"f", "a", "k", "m"}, text},
		"other service": {derived, SecretID{"e", "b", "k", "m"}, text},
		"other key":     {derived, SecretID{"e", "a", "l", "m"}, text},
		"other key id":  {derived, SecretID{"e", "a", "k", "n"}, text},
		"moved border":  {derived, SecretID{"ea", "", "k", "m"}, text},
		"empty":         {derived, id, ""},
		"short":         {derived, id, text[:20]},
		"white space":   {derived, id, text + "\n"},
		"no base64":     {derived, id, "***"},
		"too short":     {derived, id, "AAAA"},
		"padding":       {derived, id, text + "="},
		"line end":      {derived, id, "\n" + text},
		"short key":     {derived[:16], id, text},
	} {
		if plain, err := OpenSecret(c.key, c.id, c.text); err == nil {
			t.Errorf("%s: opened as %q", name, plain)
		} else if strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error holds the sealed text: %v", name, err)
		}
	}
	if _, err := Derive([]byte("short"), "a", "m"); err == nil {
		t.Error("a short master key is taken")
	}
}
