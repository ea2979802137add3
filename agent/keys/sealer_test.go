package keys_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func sealerSet() keys.Set {
	return keys.Set{
		Master: bytes.Repeat([]byte("master-1"), 4), MasterID: "6f1c1a9e-7d0e-4f3a-9c53-0d7a0a3b9f11",
		OldMaster: bytes.Repeat([]byte("master-0"), 4), OldMasterID: "11111111-7d0e-4f3a-9c53-0d7a0a3b9f11",
	}
}

// What a server seals with the old key or the new one, both open.
func TestSealerHoldsBothKeys(t *testing.T) {
	set := sealerSet()
	v := keys.NewSealer(keys.NewHolder(set))
	for _, active := range []string{set.MasterID, set.OldMasterID, "unknown"} {
		v.Active = func() string { return active }
		text, id, err := v.Seal("e", "a", "k", []byte(`"x"`))
		if err != nil || active != "unknown" && id != active || active == "unknown" && id != set.MasterID {
			t.Fatalf("sealed with %s: %v", id, err)
		}
		plain, err := v.Open("e", "a", conf.SealedSecret{Key: "k", Value: text, KeyID: id})
		if err != nil || string(plain) != `"x"` {
			t.Fatalf("%s, %v", plain, err)
		}
		if _, err := v.Open("f", "a", conf.SealedSecret{Key: "k", Value: text, KeyID: id}); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("opened in another epoch: %v", err)
		}
		if _, err := v.Open("e", "a", conf.SealedSecret{Key: "k", Value: text, KeyID: "gone"}); conf.CodeOf(err) != conf.CodeUnsupported {
			t.Errorf("opened without its key: %v", err)
		}
	}
}

// A sidecar stores the keys that it receives, and opens its own service's secrets with them.
func TestSidecarOpensItsOwn(t *testing.T) {
	set := generated(t)
	server := keys.NewSealer(keys.NewHolder(set))
	lines, err := set.SidecarLines("mine")
	if err != nil || strings.Contains(strings.Join(lines, "\n"), "MASTER") {
		t.Fatalf("%v, %v", lines, err)
	}
	file := filepath.Join(t.TempDir(), ".env")
	none := func(string) (string, bool) { return "", false }
	for range 2 { // again is harmless
		if err := keys.Import(none, file, lines, keys.Options{Role: conf.MemberSidecar}); err != nil {
			t.Fatal(err)
		}
	}
	side, _, err := keys.Load(none, file, keys.Options{Role: conf.MemberSidecar, Joined: true})
	if err != nil || len(side.ServiceKey) != 32 || side.ServiceKeyID != set.MasterID || len(side.Master) > 0 {
		t.Fatalf("%v, %v", side, err)
	}
	if strings.Contains(side.String(), string(side.ServiceKey)) {
		t.Error("it prints its key")
	}
	own := keys.NewSealer(keys.NewHolder(side))
	if server.ServiceOnly() || !own.ServiceOnly() {
		t.Errorf("narrow: a server %v, a sidecar %v", server.ServiceOnly(), own.ServiceOnly())
	}
	for service, opens := range map[string]bool{"mine": true, "yours": false} {
		text, id, err := server.Seal("e", service, "k", []byte(`"x"`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := own.Open("e", service, conf.SealedSecret{Key: "k", Value: text, KeyID: id}); (err == nil) != opens {
			t.Errorf("%s: %v", service, err)
		}
	}
	if _, _, err := own.Seal("e", "mine", "k", []byte(`"x"`)); err == nil {
		t.Error("a sidecar seals")
	}
	if lines, err := set.SidecarLines(""); err != nil || strings.Contains(strings.Join(lines, "\n"), "SERVICE_KEY") {
		t.Errorf("without a service: %v, %v", lines, err)
	}
}

func generated(t *testing.T) keys.Set {
	t.Helper()
	set, _, err := keys.Load(func(string) (string, bool) { return "", false }, filepath.Join(t.TempDir(), ".env"), keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
