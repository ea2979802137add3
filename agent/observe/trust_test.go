package observe_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/holdfast-config/holdfast/agent/observe"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// A key is trusted when a chain leads to it from a trusted one; whatever else stands
// in the answer of a member lets none in.
func TestLearn(t *testing.T) {
	var pub [5]ed25519.PublicKey
	var private [5]ed25519.PrivateKey
	for i := range pub {
		var err error
		if pub[i], private[i], err = ed25519.GenerateKey(nil); err != nil {
			t.Fatal(err)
		}
	}
	key := func(i, by int, state string) conf.KeyInfo {
		k := conf.KeyInfo{Kind: conf.KeySigning, ID: seal.KeyID(pub[i]), Public: seal.EncodePublic(pub[i]), State: state}
		if by >= 0 {
			k.Proof = seal.ProveKey(private[by], pub[i])
		}
		return k
	}
	const none = -1
	renamed := key(1, 0, conf.KeyActive)
	renamed.ID = seal.KeyID(pub[2])
	otherKind := key(1, 0, conf.KeyActive)
	otherKind.Kind = conf.KeyMaster
	moved := key(2, 0, conf.KeyActive)
	moved.Proof = seal.ProveKey(private[0], pub[1])
	for name, c := range map[string]struct {
		ring []conf.KeyInfo
		want int
	}{
		"the next one":             {[]conf.KeyInfo{key(0, none, conf.KeyOld), key(1, 0, conf.KeyActive)}, 1},
		"announced":                {[]conf.KeyInfo{key(1, 0, conf.KeyAnnounced)}, 1},
		"two rotations, backwards": {[]conf.KeyInfo{key(2, 1, conf.KeyActive), key(1, 0, conf.KeyOld)}, 2},
		"over an expired one":      {[]conf.KeyInfo{key(1, 0, conf.KeyExpired), key(2, 1, conf.KeyActive)}, 1},
		"expired":                  {[]conf.KeyInfo{key(1, 0, conf.KeyExpired)}, 0},
		"given up":                 {[]conf.KeyInfo{key(1, 0, conf.KeyWithdrawn)}, 0},
		"over one given up":        {[]conf.KeyInfo{key(1, 0, conf.KeyWithdrawn), key(2, 1, conf.KeyActive)}, 0},
		"no proof":                 {[]conf.KeyInfo{key(1, none, conf.KeyActive)}, 0},
		"proven by itself":         {[]conf.KeyInfo{key(1, 1, conf.KeyActive)}, 0},
		"a chain from elsewhere":   {[]conf.KeyInfo{key(3, none, conf.KeyOld), key(4, 3, conf.KeyActive)}, 0},
		"a hole in the chain":      {[]conf.KeyInfo{key(2, 1, conf.KeyActive)}, 0},
		"the proof of another key": {[]conf.KeyInfo{moved}, 0},
		"another id":               {[]conf.KeyInfo{renamed}, 0},
		"another kind":             {[]conf.KeyInfo{otherKind}, 0},
		"no key":                   {[]conf.KeyInfo{{Kind: conf.KeySigning, State: conf.KeyActive}}, 0},
	} {
		r, err := observe.New(observe.Options{Services: []string{"a"}, Trust: pub[:1]})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Learn(c.ring); len(got) != c.want || len(r.Trusted()) != 1+c.want {
			t.Errorf("%s: %d learned, %d trusted, want %d", name, len(got), len(r.Trusted()), c.want)
		}
		if again := r.Learn(c.ring); len(again) != 0 {
			t.Errorf("%s: learned twice", name)
		}
	}
}
