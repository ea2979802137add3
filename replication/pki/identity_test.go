package pki_test

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

func bootstrap(t testing.TB, cluster, node string) *pki.Identity {
	t.Helper()
	return must(pki.Bootstrap(cluster, node, ttl, time.Now()))(t)
}

func save(t testing.TB, id *pki.Identity, dir string) {
	t.Helper()
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "tls")
	_, err := pki.LoadIdentity(dir)
	wantCode(t, err, conf.CodeNotFound)
	wantHint(t, err)
	id := bootstrap(t, "blue", "n1")
	save(t, id, dir)
	back := must(pki.LoadIdentity(dir))(t)
	if back.Peer() != id.Peer() || back.ClusterID != "blue" || back.CA == nil || back.CA.Hash() != id.CA.Hash() {
		t.Errorf("%+v came back", back)
	}
	if info := must(os.Stat(dir))(t); info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
	files := must(os.ReadDir(dir))(t)
	if len(files) != 4 {
		t.Errorf("files %v", files)
	}
	for _, f := range files {
		if info := must(f.Info())(t); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
		if err := os.Chmod(filepath.Join(dir, f.Name()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(pki.LoadIdentity(dir))(t)
	for _, f := range files {
		if info := must(os.Stat(filepath.Join(dir, f.Name())))(t); info.Mode().Perm() != 0o600 {
			t.Errorf("%s stays open to others: %v", f.Name(), info.Mode())
		}
	}
}

func TestSidecarHasNoCAKey(t *testing.T) {
	dir := t.TempDir()
	save(t, bootstrap(t, "blue", "n1"), dir)
	c := newCluster(t, "green")
	side := c.sidecar("s1")
	save(t, side, dir)
	if _, err := os.Stat(filepath.Join(dir, "ca-key.pem")); !os.IsNotExist(err) {
		t.Errorf("the CA key of another cluster is still there: %v", err)
	}
	if back := must(pki.LoadIdentity(dir))(t); back.CA != nil || back.NodeID != "s1" {
		t.Errorf("%+v", back)
	}
	_, err := side.WithCA(c.ca)
	wantCode(t, err, conf.CodeInvalid)
	_, err = c.server("n1").WithCA(newCluster(t, "green").ca)
	wantCode(t, err, conf.CodeCorrupt)
}

func TestDamagedIdentity(t *testing.T) {
	id, other := bootstrap(t, "blue", "n1"), bootstrap(t, "green", "n2")
	theirs := t.TempDir()
	save(t, other, theirs)
	files := []string{"ca.pem", "node.pem", "node-key.pem", "ca-key.pem"}
	damages := map[string]func(path, name string) error{
		"cut off":   func(path, _ string) error { return os.Truncate(path, 40) },
		"empty":     func(path, _ string) error { return os.Truncate(path, 0) },
		"directory": func(path, _ string) error { _ = os.Remove(path); return os.Mkdir(path, 0o700) },
		"foreign": func(path, name string) error {
			return os.WriteFile(path, must(os.ReadFile(filepath.Join(theirs, name)))(t), 0o600)
		},
		"junk": func(path, _ string) error { return os.WriteFile(path, []byte("junk"), 0o600) },
		"a flipped bit": func(path, _ string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[100] ^= 4
			return os.WriteFile(path, data, 0o600)
		},
		"gone": func(path, name string) error {
			if name == "node.pem" || name == "ca-key.pem" { // that means: none, and not known
				return os.Truncate(path, 0)
			}
			return os.Remove(path)
		},
	}
	for what, damage := range damages {
		for _, name := range files {
			dir := t.TempDir()
			save(t, id, dir)
			if err := damage(filepath.Join(dir, name), name); err != nil {
				t.Fatal(err)
			}
			_, err := pki.LoadIdentity(dir)
			if conf.CodeOf(err) != conf.CodeCorrupt || conf.HintOf(err) == "" {
				t.Errorf("%s: %s: %v", name, what, err)
			}
			// Joining again must get an agent out of it.
			_ = os.RemoveAll(filepath.Join(dir, name))
			save(t, other, dir)
			if back := must(pki.LoadIdentity(dir))(t); back.Peer() != other.Peer() {
				t.Errorf("%s: %s: %+v", name, what, back.Peer())
			}
		}
	}
}

func TestExpect(t *testing.T) {
	id := bootstrap(t, "blue", "n1")
	for _, ok := range [][2]string{{"", ""}, {"blue", ""}, {"blue", "n1"}} {
		if err := id.Match(ok[0], ok[1]); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][2]string{{"green", "n1"}, {"blue", "n2"}} {
		err := id.Match(bad[0], bad[1])
		wantCode(t, err, conf.CodeCorrupt)
		wantHint(t, err)
	}
}

func TestRenewalIsDue(t *testing.T) {
	now := time.Now()
	id := must(pki.Bootstrap("blue", "n1", 30*time.Hour, now))(t)
	for at, want := range map[time.Duration]bool{0: false, 18 * time.Hour: false, 20 * time.Hour: true, 40 * time.Hour: true} {
		if got := id.NeedsRenewal(now.Add(at)); got != want {
			t.Errorf("after %v: %v", at, got)
		}
	}
	if id.Expired(now) || !id.Expired(now.Add(31*time.Hour)) {
		t.Error("Expired is wrong")
	}
}

// A server that was off for longer than its certificate lasts comes back alone.
func TestReissue(t *testing.T) {
	dir := t.TempDir()
	past := time.Now().AddDate(-1, 0, 0)
	if past.Before(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		past = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	save(t, must(pki.Bootstrap("blue", "n1", ttl, past))(t), dir)
	id := must(pki.LoadIdentity(dir))(t)
	if !id.Expired(time.Now()) {
		t.Fatal("it should have ended")
	}
	fresh := must(id.Reissue(ttl, time.Now()))(t)
	if fresh.Expired(time.Now()) || fresh.NodeID != "n1" || fresh.Role != pki.RoleServer || fresh.Peer().Serial == id.Peer().Serial {
		t.Errorf("%+v", fresh.Peer())
	}
	save(t, fresh, dir)
	if back := must(pki.LoadIdentity(dir))(t); back.Peer() != fresh.Peer() || back.CA == nil {
		t.Errorf("%+v", back.Peer())
	}
	c := newCluster(t, "blue")
	_, err := c.sidecar("s1").Reissue(ttl, time.Now())
	wantCode(t, err, conf.CodeUnsupported)
}

func TestNewIdentityRefuses(t *testing.T) {
	a, b := newCluster(t, "blue"), newCluster(t, "blue") // the same name, another CA
	id := a.server("n1")
	other := must(pki.NewKey())(t)
	rawA, rawB := a.ca.Certificate().Raw, b.ca.Certificate().Raw
	for name, err := range map[string]error{
		"another key":  second(pki.NewIdentity(id.Cert.Raw, other, [][]byte{rawA})),
		"another CA":   second(pki.NewIdentity(id.Cert.Raw, id.Key, [][]byte{rawB})),
		"no CA":        second(pki.NewIdentity(id.Cert.Raw, id.Key, nil)),
		"a leaf as CA": second(pki.NewIdentity(id.Cert.Raw, id.Key, [][]byte{id.Cert.Raw})),
		"a CA as leaf": second(pki.NewIdentity(rawA, id.Key, [][]byte{rawA})),
		"junk":         second(pki.NewIdentity([]byte("junk"), id.Key, [][]byte{rawA})),
		"another cluster's CA beside": second(pki.NewIdentity(id.Cert.Raw, id.Key,
			[][]byte{rawA, newCluster(t, "green").ca.Certificate().Raw})),
	} {
		if conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(pki.NewIdentity(id.Cert.Raw, id.Key, [][]byte{rawB, rawA}))(t)
}

func second[T any](_ T, err error) error { return err }

func TestNodeKeyStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	a := must(pki.NodeKey(dir))(t)
	b := must(pki.NodeKey(dir))(t)
	if !a.Public().(*ecdsa.PublicKey).Equal(b.Public()) {
		t.Error("a retry would come with another key")
	}
	if _, err := pki.LoadIdentity(dir); conf.CodeOf(err) != conf.CodeNotFound {
		t.Errorf("a key alone is an identity: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node-key.pem"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(pki.NodeKey(dir))(t)
}

func TestUnwritableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := bootstrap(t, "blue", "n1").Save(filepath.Join(file, "tls"))
	wantCode(t, err, conf.CodeStorageFull)
	wantHint(t, err)
}
