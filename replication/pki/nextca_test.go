package pki_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/pki"
)

// A CA is replaced while members are away, and nobody who trusts the old one is
// shut out before it is forgotten.
func TestNextCA(t *testing.T) {
	now := time.Now()
	cluster := "5a0c3f1e-6ff1-4a5e-9a0e-0d6f0a5f6a01"
	old := must(pki.NewCA(cluster, now))(t)
	next := must(pki.NextCA(old, now))(t)
	other := must(pki.NewCA(cluster, now))(t)
	stolen := must(pki.NextCA(other, now))(t)
	if !pki.Endorsed(next.Certificate(), certs(old)) {
		t.Fatal("the next CA is not endorsed by the one before")
	}
	for name, ca := range map[string]*pki.CA{"without an endorsement": other, "endorsed by another": stolen} {
		if pki.Endorsed(ca.Certificate(), certs(old)) {
			t.Errorf("a CA %s is taken", name)
		}
	}
	pem := must(next.PEM())(t)
	if back := must(pki.ParseCAPEM(pem))(t); back.Hash() != next.Hash() {
		t.Fatal("the CA does not read back")
	}

	id := must(pki.Bootstrap(cluster, "n1", time.Hour, now))(t)
	mine := id.CA
	ca2 := must(pki.NextCA(mine, now))(t)
	if _, err := id.TrustCA(other.Certificate()); err == nil {
		t.Fatal("a foreign CA was learned")
	}
	both := must(id.TrustCA(ca2.Certificate()))(t)
	fresh := must(both.SwitchCA(ca2, time.Hour, now))(t)
	if pki.HashCA(fresh.Issuer()) != ca2.Hash() || pki.HashCA(fresh.CAs[0]) != ca2.Hash() || len(fresh.CAs) != 2 {
		t.Fatal("the certificate is not from the new CA")
	}
	if _, err := both.DistrustCA(mine.Hash()); err == nil {
		t.Fatal("an agent forgot the CA of its own certificate")
	}
	last := must(fresh.DistrustCA(mine.Hash()))(t)
	dir := t.TempDir()
	if err := last.Save(dir); err != nil {
		t.Fatal(err)
	}
	if again := must(pki.LoadIdentity(dir))(t); len(again.CAs) != 1 || again.CA == nil || again.CA.Hash() != ca2.Hash() {
		t.Fatal("the identity under the new CA does not load")
	}
}

func certs(cas ...*pki.CA) (out []*x509.Certificate) {
	for _, ca := range cas {
		out = append(out, ca.Certificate())
	}
	return out
}
