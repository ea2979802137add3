package updates_test

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"github.com/holdfast-config/holdfast/agent/updates"
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
		r, err := updates.New(updates.Options{Services: []string{"a"}, Trust: pub[:1]})
		if err != nil {
			t.Fatal(err)
		}
		if got, gone := r.MergeKeyring(c.ring); len(got) != c.want || len(r.Trusted()) != 1+c.want || len(gone) != 0 {
			t.Errorf("%s: %d learned, %d trusted, %d gone, want %d", name, len(got), len(r.Trusted()), len(gone), c.want)
		}
		if again, gone := r.MergeKeyring(c.ring); len(again) != 0 || len(gone) != 0 {
			t.Errorf("%s: learned twice", name)
		}
	}
}

// A key that was learned is trusted until a member says that it is at its end, or does
// not know it any more; it proves the one after it all the same, after a restart too.
func TestLearnedKeysEnd(t *testing.T) {
	var pub [4]ed25519.PublicKey
	var private [4]ed25519.PrivateKey
	for i := range pub {
		var err error
		if pub[i], private[i], err = ed25519.GenerateKey(nil); err != nil {
			t.Fatal(err)
		}
	}
	key := func(i int, state string) conf.KeyInfo {
		return conf.KeyInfo{Kind: conf.KeySigning, ID: seal.KeyID(pub[i]), Public: seal.EncodePublic(pub[i]), State: state, Proof: seal.ProveKey(private[i-1], pub[i])}
	}
	made := func(trust int, learned []conf.KeyInfo) *updates.Receiver {
		r, err := updates.New(updates.Options{Services: []string{"a"}, Trust: pub[trust : trust+1], Learned: learned})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	trusts := func(what string, r *updates.Receiver, want ...int) {
		t.Helper()
		list := r.Trusted()
		for _, i := range want {
			if !slices.ContainsFunc(list, func(k ed25519.PublicKey) bool { return k.Equal(pub[i]) }) {
				t.Errorf("%s: %d is not trusted", what, i)
			}
		}
		if len(list) != len(want) {
			t.Errorf("%s: %d are trusted, want %v", what, len(list), want)
		}
	}
	r := made(0, nil)
	r.MergeKeyring([]conf.KeyInfo{key(1, conf.KeyActive)})
	trusts("at first", r, 0, 1)
	if fresh, gone := r.MergeKeyring(nil); len(fresh)+len(gone) != 0 {
		t.Error("a member without a keyring says something")
	}
	fresh, gone := r.MergeKeyring([]conf.KeyInfo{key(1, conf.KeyExpired), key(2, conf.KeyActive)})
	if len(fresh) != 1 || len(gone) != 1 || !gone[0].Equal(pub[1]) {
		t.Errorf("retired: %d fresh, %d gone", len(fresh), len(gone))
	}
	trusts("retired", r, 0, 2)
	r = made(0, r.Learned())
	trusts("after a restart", r, 0, 2)
	r.MergeKeyring([]conf.KeyInfo{key(2, conf.KeyOld), key(3, conf.KeyActive)})
	trusts("a link that the cluster forgot", r, 0, 2, 3)
	r.MergeKeyring([]conf.KeyInfo{key(3, conf.KeyActive)})
	trusts("a key that it forgot", r, 0, 3)
	if stripped := key(3, conf.KeyActive); len(r.Learned()) == 3 {
		stripped.Proof = ""
		r.MergeKeyring([]conf.KeyInfo{stripped})
		trusts("a proof that was left out", r, 0, 3)
	} else {
		t.Errorf("%d are kept", len(r.Learned()))
	}
	trusts("another trust, in the chain", made(1, r.Learned()), 1, 3)
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := updates.New(updates.Options{Services: []string{"a"}, Trust: []ed25519.PublicKey{other}, Learned: r.Learned()})
	if err != nil || len(foreign.Trusted()) != 1 || len(foreign.Learned()) != 0 {
		t.Errorf("a foreign trust: %d trusted, %d kept, %v", len(foreign.Trusted()), len(foreign.Learned()), err)
	}
}
