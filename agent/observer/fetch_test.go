package observer

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// keyringMember is a member that responds with a keyring.
type keyringMember []conf.KeyInfo

func (keyringMember) Service(context.Context, string) (conf.ReadResponse, error) {
	return conf.ReadResponse{}, conf.Errorf(conf.CodeNotFound, "no service")
}

func (m keyringMember) KeyRing(context.Context) (conf.KeysStatus, error) {
	return conf.KeysStatus{Keys: m}, nil
}

// A keyring of a member adds the keys that a trusted one proves, and nothing else.
func TestFetchKeys(t *testing.T) {
	var pub [2]ed25519.PublicKey
	var private [2]ed25519.PrivateKey
	for i := range pub {
		var err error
		if pub[i], private[i], err = ed25519.GenerateKey(nil); err != nil {
			t.Fatal(err)
		}
	}
	ring := keyringMember{{
		Kind: conf.KeySigning, ID: seal.KeyID(pub[1]), Public: seal.EncodePublic(pub[1]), State: conf.KeyActive, Proof: seal.ProveKey(private[0], pub[1]),
	}}
	for _, c := range []struct {
		name    string
		trust   ed25519.PublicKey
		trusted int
	}{
		{"the key before", pub[0], 2},
		{"a foreign key", make([]byte, 32), 1},
	} {
		b, err := New(testOptions(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": seal.EncodePublic(c.trust), "CONFIG_OBSERVE_URL": "mqtt://127.0.0.1:1",
		}), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		b.fetch.members = []memberClient{ring}
		b.fetch.requestKeys()
		if ok, n := b.fetch.fetchKeys(t.Context()), len(b.receiver.Trusted()); !ok || n != c.trusted {
			t.Errorf("%s: a member responded: %v; %d keys are trusted", c.name, ok, n)
		}
		if b.fetch.refetch["demo"] != (c.trusted == 2) {
			t.Errorf("%s: the services are fetched again: %v", c.name, b.fetch.refetch)
		}
		b.held.Close()
	}
}
