package keys

import (
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// A sidecar gets the key of its own service under the next master key; another one
// that listens or claims its service can do nothing with it.
func TestWrapServiceKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	server, _, err := Load(none, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	was := server.MasterID
	mine, err := server.SecretKey("mine", was)
	if err != nil {
		t.Fatal(err)
	}
	other, err := server.SecretKey("other", was)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := NewMaterial(conf.KeyMaster, "")
	if server, err = Rotate(none, path, m, was, Options{}); err != nil {
		t.Fatal(err)
	}
	sealed, err := server.WrapServiceKey("mine", was, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Set{ServiceKey: mine, ServiceKeyID: was}.UnwrapServiceKey("mine", m.ID, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := server.SecretKey("mine", m.ID); got.Value != encode(want) || got.ID != m.ID {
		t.Fatal("another key was received")
	}
	for name, s := range map[string]Set{"another's key": {ServiceKey: other, ServiceKeyID: was}, "no key": {}} {
		if _, err := s.UnwrapServiceKey("mine", m.ID, sealed); err == nil {
			t.Errorf("%s opens it", name)
		}
	}
	if _, err := server.WrapServiceKey("mine", "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01", m.ID); err == nil {
		t.Error("wrapped under a key that the server does not have")
	}
}
