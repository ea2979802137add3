package agent_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/testenv"
)

func (r *running) keyring() conf.KeysStatus {
	r.T.Helper()
	code, _, body := r.Call("GET", r.Info().AdminURL+"/api/config/keys", "", "X-API-Token", testenv.ReadToken)
	var st conf.KeysStatus
	if err := json.Unmarshal([]byte(body), &st); code != http.StatusOK || err != nil {
		r.T.Fatalf("%d %s: %v", code, body, err)
	}
	return st
}

// change asks for a change of a key, and tells the answer.
func (r *running) changeKey(kind, change string) (conf.KeyRotation, int, string) {
	r.T.Helper()
	return r.answerTo(kind, change, r.Call)
}

func (r *running) answerTo(kind, change string, ask func(method, url, body string, header ...string) (int, http.Header, string)) (conf.KeyRotation, int, string) {
	r.T.Helper()
	code, _, body := ask("POST", r.Info().AdminURL+"/api/config/keys/"+kind+"/"+change+"?reason=test", "", "X-API-Token", testenv.WriteToken)
	var rot conf.KeyRotation
	if code == http.StatusOK {
		if err := json.Unmarshal([]byte(body), &rot); err != nil {
			r.T.Fatal(err)
		}
	}
	return rot, code, body
}

func (s testStatus) state(kind, id string) string {
	for _, k := range s.Keys {
		if k.Kind == kind && k.ID == id {
			return k.State
		}
	}
	return ""
}

func (s testStatus) active(kind string) string {
	for _, k := range s.Keys {
		if k.Kind == kind && k.State == conf.KeyActive {
			return k.ID
		}
	}
	return ""
}

type testStatus struct{ conf.KeysStatus }

func (r *running) publicKeyIDs() (ids []string) {
	r.T.Helper()
	_, _, body := r.Call("GET", r.Info().LocalURL+"/v1/keys", "")
	var list struct {
		Keys []localapi.Key `json:"keys"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		r.T.Fatal(err)
	}
	for _, k := range list.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

// Every key is rotated in a cluster of three servers and a sidecar, from any agent;
// a member that was down takes part when it comes back.
func TestRotation(t *testing.T) {
	t.Parallel()
	r, o := three(t, "CONFIG_KEY_ROTATION_GRACE_MINUTES", "0.02")
	side := start(t, joining(t, r[0], "side", r[0].joinToken(conf.MemberSidecar).Token)).ready()
	all := []*running{r[0], r[1], r[2], side}
	r[0].Await("the keys in the keyring", func() bool { return testStatus{r[0].keyring()}.active(conf.KeyCA) != "" })
	side.Await("the key of the cluster's name for its own file, and no other", func() bool {
		set := side.Rooms().Keys.Set()
		_, err := lkg.Load(side.Options.LKGPath, set.HMAC)
		return set.OldHMAC == nil && set.HMACID == r[0].Rooms().Keys.Set().HMACID && err == nil
	})

	for i, kind := range conf.KeyKinds() {
		asked := all[i] // the sidecar too: it hands the request on
		before := testStatus{r[0].keyring()}.active(kind)
		rot, code, body := asked.changeKey(kind, "rotate")
		if code != http.StatusOK || rot.KeyID == before {
			t.Fatalf("rotate %s: %d %s", kind, code, body)
		}
		r[0].Await("the new "+kind+" key in use everywhere", func() bool {
			st := testStatus{r[0].keyring()}
			if st.active(kind) != rot.KeyID || st.state(kind, before) == conf.KeyActive {
				return false
			}
			for _, m := range st.Members {
				if h := m.Holds[kind]; !(m.Role == conf.MemberSidecar && kind == conf.KeyMaster) && h.Use != rot.KeyID {
					return false
				}
			}
			return true
		})
		switch kind {
		case conf.KeySigning:
			for _, a := range all {
				a.Await("signatures by the new key", func() bool { return a.record("demo").KeyID == rot.KeyID })
				if ids := a.publicKeyIDs(); ids[0] != rot.KeyID {
					t.Fatalf("/v1/keys of %s: %v", a.Info().NodeID, ids)
				}
			}
		case conf.KeyHMAC:
			for _, a := range all {
				set := a.Rooms().Keys.Set()
				if main, _ := set.IDs(kind); main != rot.KeyID {
					t.Fatalf("%s: %s", a.Info().NodeID, main)
				}
				a.Await("a file under the new key", func() bool { _, err := lkg.Load(a.Options.LKGPath, set.HMAC); return err == nil })
			}
			if string(side.Rooms().Keys.Set().HMAC) == string(r[0].Rooms().Keys.Set().HMAC) {
				t.Fatal("the sidecar has the servers' key")
			}
		case conf.KeyCA:
			for _, a := range all {
				if id := a.Rooms().Cluster.Port.Identity(); pki.HashCA(id.Issuer()) != rot.KeyID {
					t.Fatalf("%s has no certificate from the new CA", a.Info().NodeID)
				}
			}
		}
		ended := func() bool {
			if s := (testStatus{r[0].keyring()}).state(kind, before); s != conf.KeyExpired {
				return false
			}
			for _, a := range all {
				if kind == conf.KeyCA {
					if len(a.Rooms().Cluster.Port.Identity().CAs) != 1 {
						return false
					}
				} else if main, old := a.Rooms().Keys.Set().IDs(kind); old != "" || main != rot.KeyID && !(a == side && kind == conf.KeyMaster) {
					return false
				}
			}
			return true
		}
		r[0].Await("the end of the old "+kind+" key", ended)
		if code, body := asked.set("2" + string(rune('0'+i))); code != http.StatusOK {
			t.Fatalf("a write after the rotation of %s: %d %s", kind, code, body)
		}
	}
	r[0].Await("tokens of the new CA in the files", func() bool {
		return !r[0].Rooms().Cluster.IsReadyLeader() || r[0].Rooms().Members.IsOwnToken(r[0].Options.ServerTokenPath) && r[0].Rooms().Members.IsOwnToken(r[0].Options.SidecarTokenPath)
	})
	text, err := os.ReadFile(o[1].EnvFile)
	if err != nil || strings.Contains(string(text), "OLD") {
		t.Fatalf("old keys are left: %v", err)
	}
	// A sidecar that joins now gets what is in use.
	r[0].lead(r[1:]...)
	late := start(t, joining(t, r[0], "late", r[0].joinToken(conf.MemberSidecar).Token)).ready()
	late.Await("the value", func() bool { v, _ := late.level(); return v == "23" })
	if got, want := late.publicKeyIDs(), r[0].publicKeyIDs(); !slices.Equal(got, want) {
		t.Fatalf("keys %v, want %v", got, want)
	}
}
