package seal_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func TestEpochChange(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const one, two = "550e8400-e29b-41d4-a716-446655440000", "650e8400-e29b-41d4-a716-446655440000"
	good := seal.NewSigner(private).SignEpoch(one, two, time.Now())
	if err := seal.VerifyEpoch(public, good); err != nil {
		t.Fatal(err)
	}
	if err := seal.VerifyEpoch(foreign, good); conf.CodeOf(err) != conf.CodeDenied {
		t.Errorf("with another key: %v", err)
	}
	for what, change := range map[string]func(*conf.EpochChange){
		"swapped":             func(c *conf.EpochChange) { c.Previous, c.Epoch = c.Epoch, c.Previous },
		"another old epoch":   func(c *conf.EpochChange) { c.Previous = "750e8400-e29b-41d4-a716-446655440000" },
		"another new epoch":   func(c *conf.EpochChange) { c.Epoch = "750e8400-e29b-41d4-a716-446655440000" },
		"another time":        func(c *conf.EpochChange) { c.At = conf.FormatTime(time.Now().Add(time.Second)) },
		"another form of it":  func(c *conf.EpochChange) { c.At = strings.Replace(c.At, "+00:00", "Z", 1) },
		"a bar in the epoch":  func(c *conf.EpochChange) { c.Previous, c.Epoch = one+"|"+two, "x" },
		"no signature":        func(c *conf.EpochChange) { c.Signature = "" },
		"the same epoch":      func(c *conf.EpochChange) { c.Epoch = c.Previous },
		"a truncated message": func(c *conf.EpochChange) { c.Signature = c.Signature[:40] },
	} {
		c := good
		change(&c)
		if err := seal.VerifyEpoch(public, c); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	// An update that says the same words is signed in other bytes.
	u := seal.NewSigner(private).Sign("router", []byte("{}"), one, time.Now())
	c := good
	c.Signature = u.Signature
	if err := seal.VerifyEpoch(public, c); err == nil {
		t.Error("the signature of an update passes for one of an epoch")
	}
}

func TestEpochMessage(t *testing.T) {
	t.Parallel()
	var changes []conf.EpochChange
	for i := range 100 {
		changes = append(changes, conf.EpochChange{Previous: fmt.Sprint("e", i), Epoch: fmt.Sprint("e", i+1)})
	}
	data, err := seal.EncodeEpochs(changes)
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal.DecodeEpochs(data)
	if err != nil || len(got) != 64 || got[63] != changes[99] {
		t.Fatalf("%d changes, %v", len(got), err)
	}
	for _, bad := range []string{"", "{}", `{"version":2,"changes":[]}`, `{"version":1,"changes":[],"more":1}`, string(data[:len(data)-1])} {
		if _, err := seal.DecodeEpochs([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestEpochVector holds the signed bytes for clients in other languages: the key is
// that of RFC 8032, test 1.
func TestEpochVector(t *testing.T) {
	t.Parallel()
	seed, _ := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	private := ed25519.NewKeyFromSeed(seed)
	c := seal.NewSigner(private).SignEpoch("550e8400-e29b-41d4-a716-446655440000", "650e8400-e29b-41d4-a716-446655440000",
		time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC))
	const signed = "holdfast-epoch|550e8400-e29b-41d4-a716-446655440000|650e8400-e29b-41d4-a716-446655440000|2026-01-02T03:04:05.000006+00:00"
	if want := base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(signed))); c.Signature != want {
		t.Errorf("signature %s, want %s", c.Signature, want)
	}
	data, err := seal.EncodeEpochs([]conf.EpochChange{c})
	const message = `{"version":1,"changes":[{"old_epoch":"550e8400-e29b-41d4-a716-446655440000","config_epoch":"650e8400-e29b-41d4-a716-446655440000","issued_at":"2026-01-02T03:04:05.000006+00:00","signature":"`
	if err != nil || !strings.HasPrefix(string(data), message) {
		t.Errorf("%s, %v", data, err)
	}
}
