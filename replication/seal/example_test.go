package seal_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/holdfast-config/holdfast/replication/seal"
)

// A checksum covers the RFC 8785 form, so it does not depend on how a document is
// written.
func ExampleCanonicalJSON() {
	canonical, err := seal.CanonicalJSON([]byte(`{ "b": 1.0, "a": "é" }`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(canonical))
	fmt.Println(seal.Checksum(canonical))

	_, err = seal.CanonicalJSON([]byte(`{"id": 9007199254740993}`))
	fmt.Println(err != nil)
	// Output:
	// {"a":"é","b":1}
	// aa58fba8483623bed37c1b02edfccbdd9a53123837c20bfa4cb4049993a2872e
	// true
}

// The leader signs an update once. Every receiver verifies it with the public key,
// whatever delivered it.
func ExampleSigner_Sign() {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	public := private.Public().(ed25519.PublicKey)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

	u := seal.NewSigner(private).Sign("router", []byte(`{"port":8080}`), "550e8400-e29b-41d4-a716-446655440000", at)
	message, err := seal.EncodeUpdate(u)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.IssuedAt, seal.KeyID(public))

	received, err := seal.DecodeUpdate(message)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(seal.Verify(public, received) == nil)

	received.Config = []byte(`{"port":8081}`)
	fmt.Println(seal.Verify(public, received) == nil)
	// Output:
	// 2026-01-02T03:04:05+00:00 fe812c12f3ab4ce6
	// true
	// false
}

// A sealed secret opens only as the secret that it was sealed as.
func ExampleSealSecret() {
	master := bytes.Repeat([]byte{1}, 32)
	id := seal.SecretID{Epoch: "550e8400-e29b-41d4-a716-446655440000", Service: "vault", Key: "db.password", KeyID: "k1"}
	key, err := seal.Derive(master, id.Service, id.KeyID)
	if err != nil {
		fmt.Println(err)
		return
	}
	sealed, err := seal.SealSecret(key, id, []byte(`"correct horse"`))
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := seal.OpenSecret(key, id, sealed)
	fmt.Println(string(plain), err)

	id.Key = "db.user"
	_, err = seal.OpenSecret(key, id, sealed)
	fmt.Println(err != nil)
	// Output:
	// "correct horse" <nil>
	// true
}
