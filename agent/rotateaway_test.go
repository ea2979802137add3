package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv"
)

// everything has every key rotated at r, and waits until it is.
func (r *running) rotateAll() map[string]string {
	r.T.Helper()
	made := map[string]string{}
	for _, kind := range conf.KeyKinds() {
		r.Await("a keyring", func() bool { return testStatus{r.keyring()}.active(kind) != "" })
		rot, code, body := r.changeKey(kind, "rotate")
		if code != http.StatusOK {
			r.T.Fatalf("rotate %s: %d %s", kind, code, body)
		}
		made[kind] = rot.KeyID
		r.Await("the new "+kind+" key in use", func() bool { return testStatus{r.keyring()}.active(kind) == rot.KeyID })
	}
	return made
}

// Members that were down while every key was rotated come back, and get them all:
// a server that does not vote, and a sidecar. Nobody's old CA is forgotten before.
func TestMembersThatWereAway(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{
		"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t), "CONFIG_VOTERS": "1", "CONFIG_KEY_ROTATION_GRACE_MINUTES": "0.02",
	})).ready()
	o2, os2 := joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token), joining(t, n1, "side", n1.joinToken(conf.MemberSidecar).Token)
	n2, side := start(t, o2).ready(), start(t, os2).ready()
	for _, a := range []*running{n2, side} {
		a.Await("a log that is noted", a.Rooms().Cluster.HasLog)
		a.Await("the value", func() bool { v, _ := a.level(); return v != "" })
	}
	n2.Stop()
	side.Stop()
	oldCA := testStatus{n1.keyring()}.active(conf.KeyCA)
	made := n1.rotateAll()
	if code, body := n1.set("61"); code != http.StatusOK {
		t.Fatal(body)
	}
	st := testStatus{n1.keyring()}
	if s := st.state(conf.KeyCA, oldCA); s != conf.KeyOld {
		t.Fatalf("the old CA is %s while members have certificates from it", s)
	}
	if _, code, body := n1.changeKey(conf.KeyCA, "retire"); code != http.StatusConflict || !strings.Contains(body, "needed by") {
		t.Fatalf("retire: %d %s", code, body)
	}
	n2, side = start(t, o2).ready(), start(t, os2).ready()
	for _, a := range []*running{n2, side} {
		a.Await("the change", func() bool { v, source := a.level(); return v == "61" && source == "replica" })
		a.Await("all keys", func() bool {
			held := a.heldKeys()
			for kind, id := range made {
				if a == side && kind == conf.KeyMaster {
					continue
				}
				if held[kind].Use != id {
					return false
				}
			}
			return true
		})
	}
	n1.Await("the end of all rotations", func() bool { return len(n1.keyring().Rotations) == 0 })
	n2.Await("one CA", func() bool { return len(n2.Rooms().Cluster.Port.Identity().CAs) == 1 })
}

// The seed's way: the operator puts the new key and the old one into the .env file
// and restarts. A key that was stored and not announced when the agent died is the
// same case.
func TestRotationByHand(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})
	a := start(t, o).ready()
	kinds := []string{conf.KeyMaster, conf.KeyHMAC, conf.KeySigning}
	for _, kind := range kinds {
		a.Await("a keyring", func() bool { return testStatus{a.keyring()}.active(kind) != "" })
	}
	a.Stop()
	made := map[string]string{}
	for _, kind := range kinds {
		m, err := keys.NewMaterial(kind, "")
		if err != nil {
			t.Fatal(err)
		}
		set, _, err := keys.Load(o.Env, o.EnvFile, keys.Options{Joined: true})
		if err != nil {
			t.Fatal(err)
		}
		was, _ := set.IDs(kind)
		if _, err := keys.Rotate(o.Env, o.EnvFile, m, was, keys.Options{}); err != nil {
			t.Fatal(err)
		}
		made[kind] = m.ID
	}
	text, _ := os.ReadFile(o.EnvFile)
	for _, name := range []string{"CONFIG_MASTER_KEY_OLD_BASE64=", "CONFIG_MASTER_KEY_OLD_ID=", "LKG_HMAC_KEY_OLD_BASE64=", "CONFIG_SIGNATURE_OLD_PRIVATE_KEY="} {
		if !strings.Contains(string(text), name) {
			t.Errorf("%s is not in the .env file", name)
		}
	}
	a = start(t, o).ready()
	if v, _ := a.level(); v == "" {
		t.Fatal("no value after the restart")
	}
	for _, kind := range kinds {
		a.Await("the "+kind+" key that was put in place in use", func() bool { return testStatus{a.keyring()}.active(kind) == made[kind] })
	}
	a.Await("signatures by it", func() bool { return a.record("demo").KeyID == made[conf.KeySigning] })
	// The user may remove the old keys then, as the seed says.
	_, code, body := a.changeKey(conf.KeySigning, "rotate")
	if code != http.StatusConflict || !strings.Contains(body, "keys retire signing") {
		t.Fatalf("another rotation within the grace: %d %s", code, body)
	}
	for _, kind := range kinds {
		a.Await("the old "+kind+" key to be retired", func() bool { _, code, _ := a.changeKey(kind, "retire"); return code == http.StatusOK })
	}
	a.Await("no old key in the file", func() bool { text, _ := os.ReadFile(o.EnvFile); return !strings.Contains(string(text), "_OLD_") })
	a.Stop()
	if a = start(t, o).ready(); a.Health().LKGCacheValid != true {
		t.Fatal("the last-known-good file does not load with the new key")
	}
}

// What cannot be stored is refused before anything is changed, with the way out.
func TestRotationRefused(t *testing.T) {
	t.Parallel()
	set := map[string]string{"CONFIG_MASTER_KEY_BASE64": "bWFzdGVyIGtleSBvZiB0aGlydHktdHdvIGJ5dGVzISE=", "CONFIG_MASTER_KEY_ID": "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01"}
	a := start(t, testenv.Options(t, set)).ready()
	a.Await("a keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyMaster) != "" })
	_, code, body := a.changeKey(conf.KeyMaster, "rotate")
	if code != http.StatusConflict || !strings.Contains(body, "environment") || !strings.Contains(body, "_OLD_") {
		t.Fatalf("a key of the environment: %d %s", code, body)
	}
	st := a.keyring()
	for _, k := range st.Keys {
		if k.Kind == conf.KeyMaster && k.State != conf.KeyActive {
			t.Fatalf("something was changed: %+v", k)
		}
	}
	if st.Encryption.MasterKeyID != set["CONFIG_MASTER_KEY_ID"] || st.Encryption.RotationStatus != "idle" {
		t.Fatalf("%+v", st.Encryption)
	}
	if _, code, body := a.changeKey(conf.KeySigning, "abort"); code != http.StatusNotFound {
		t.Fatalf("abort of nothing: %d %s", code, body)
	}
}

// A rotation that is given up leaves the key in use where it was.
func TestRotationGivenUp(t *testing.T) {
	t.Parallel()
	n1 := start(t, testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1", "CONFIG_CLUSTER_ADDR": freeAddr(t)})).ready()
	o2 := joining(t, n1, "n2", n1.joinToken(conf.MemberServer).Token)
	n2 := start(t, o2).ready()
	n1.Await("a keyring", func() bool { return testStatus{n1.keyring()}.active(conf.KeyCA) != "" })
	before := testStatus{n1.keyring()}
	for _, kind := range conf.KeyKinds() {
		// The announcement alone, as of a leader that died then: nobody has the key.
		cmd := announceNobodys(t, n1, kind)
		n1.Await("what it waits for", func() bool {
			for _, r := range n1.keyring().Rotations {
				if r.Kind == kind && r.KeyID == cmd && (len(r.Waiting) > 0 || kind == conf.KeyHMAC) {
					return true
				}
			}
			return false
		})
		n1.Await("the word that nobody has it, and the way out", func() bool {
			for _, r := range n1.keyring().Rotations {
				if r.Kind == kind && strings.Contains(strings.Join(r.Waiting, "\n"), "holdfast keys rotate "+kind+" --abort") &&
					strings.Contains(strings.Join(r.Waiting, "\n"), "none that answers") {
					return true
				}
			}
			return false
		})
		if err := n1.Rooms().Rotation.Advance(t.Context(), n1.Rooms().Replicas.Current()); err != nil || (testStatus{n1.keyring()}).active(kind) != before.active(kind) {
			t.Fatalf("a %s key that nobody has is in use (%v)", kind, err)
		}
		if _, code, body := n1.changeKey(kind, "abort"); code != http.StatusOK {
			t.Fatalf("abort %s: %d %s", kind, code, body)
		}
		st := testStatus{n1.keyring()}
		if st.active(kind) != before.active(kind) || st.state(kind, cmd) != conf.KeyWithdrawn {
			t.Fatalf("%s: in use %s, given up %s", kind, st.active(kind), st.state(kind, cmd))
		}
	}
	made := n1.rotateAll() // and it goes on from there
	n2.Await("the new keys", func() bool {
		id := n2.Rooms().Cluster.Port.Identity()
		return n2.Rooms().Keys.Set().MasterID == made[conf.KeyMaster] && pki.HashCA(id.Issuer()) == made[conf.KeyCA]
	})
}

func announceNobodys(t *testing.T, r *running, kind string) string {
	t.Helper()
	ss := r.Rooms().Replicas.Current()
	k := command.NewKey{Kind: kind, ID: "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01"}
	switch kind {
	case conf.KeyCA:
		ca, err := pki.NextCA(r.Rooms().Cluster.Port.Identity().CA, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		k.ID, k.Public = ca.Hash(), base64.StdEncoding.EncodeToString(ca.Certificate().Raw)
	case conf.KeySigning:
		m, err := keys.NewMaterial(kind, "")
		if err != nil {
			t.Fatal(err)
		}
		private, err := m.PrivateOf()
		if err != nil {
			t.Fatal(err)
		}
		k.ID, k.Public = m.ID, seal.EncodePublic(private.Public().(ed25519.PublicKey))
	}
	if err := ss.Propose(t.Context(), &command.Keyring{At: conf.FormatTime(time.Now()), By: "test", Announce: []command.NewKey{k}}); err != nil {
		t.Fatal(err)
	}
	return k.ID
}

// A store that came from another cluster, as out of a backup, names a CA that is not
// this one's.
func TestKeyringOfAnotherCluster(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, map[string]string{"CONFIG_NODE_ID": "n1"})
	a := start(t, o).ready()
	a.Await("a keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyCA) != "" })
	was := testStatus{a.keyring()}.active(conf.KeyCA)
	a.Stop()
	for _, p := range []string{o.TLSDir(), o.ClusterFile()} {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
	a = start(t, o).ready()
	own := a.Rooms().Cluster.Port.Identity().CA.Hash()
	if own == was {
		t.Fatal("the same CA")
	}
	a.Await("its own CA in the keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyCA) == own })
	rot, code, body := a.changeKey(conf.KeyCA, "rotate")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	a.Await("the next one", func() bool { return pki.HashCA(a.Rooms().Cluster.Port.Identity().Issuer()) == rot.KeyID })
}

// A rotation of the master key goes on after a restart where it was, and the secrets
// are read all the while.
func TestResealGoesOn(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	a := start(t, o).ready()
	const n = 3*50 - 10 // three batches
	props, doc := []string{}, []string{}
	for i := range n {
		props = append(props, fmt.Sprintf(`"s%d":{"type":"string","x-secret":true,"x-secret-source":"database"}`, i))
		doc = append(doc, fmt.Sprintf(`"s%d":"value-%d"`, i, i))
	}
	for _, put := range [][2]string{
		{"schemas/sealed", `{"type":"object","properties":{` + strings.Join(props, ",") + `}}`},
		{"services/sealed", `{"service":"sealed","version":1,"config":{` + strings.Join(doc, ",") + `}}`},
	} {
		if code, _, body := a.Call("PUT", a.Info().AdminURL+"/api/config/"+put[0], put[1], "X-API-Token", testenv.WriteToken, "Content-Type", "application/json"); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
	}
	token, err := os.ReadFile(o.LocalTokenFile())
	if err != nil {
		t.Fatal(err)
	}
	readable := func() bool {
		_, _, body := a.Call("GET", a.Info().LocalURL+"/v1/config/sealed", "", "X-Holdfast-Token", strings.TrimSpace(string(token)))
		return strings.Contains(body, `"s0":"value-0"`) && strings.Contains(body, fmt.Sprintf(`"s%d":"value-%d"`, n-1, n-1))
	}
	a.Await("the secrets", readable)
	a.Await("a keyring", func() bool { return testStatus{a.keyring()}.active(conf.KeyMaster) != "" })
	before := testStatus{a.keyring()}.active(conf.KeyMaster)

	// The agent ends right after the new key came into use.
	ss := a.Rooms().Replicas.Current()
	ctx, cancel := context.WithCancel(t.Context())
	m, err := keys.NewMaterial(conf.KeyMaster, "")
	if err != nil {
		t.Fatal(err)
	}
	a.storeKey(m, before)
	at := conf.FormatTime(time.Now())
	res, err := ss.Node().Propose(ctx, &command.Keyring{
		At: at, Announce: []command.NewKey{{Kind: conf.KeyMaster, ID: m.ID}},
		Activate: []command.KeyActivation{{Kind: conf.KeyMaster, ID: m.ID, OldUntil: conf.FormatTime(time.Now().Add(time.Hour))}},
	})
	if err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	cancel() // what the duty of the leader began ends with the agent
	a.Stop()
	a = start(t, o).ready()
	if !readable() {
		t.Fatal("the secrets are not read after the restart")
	}
	a.Await("all secrets under the new key", func() bool {
		for _, k := range a.keyring().Keys {
			if k.Kind == conf.KeyMaster && k.ID == m.ID {
				return k.Secrets == n
			}
		}
		return false
	})
	if !readable() {
		t.Fatal("the secrets are not read after the rotation")
	}
}
