package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

func TestCA(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewCA("blue-1", now))(t)
	sum := sha256.Sum256(ca.Certificate().Raw)
	if ca.Hash() != hex.EncodeToString(sum[:]) {
		t.Error("the hash is not the SHA-256 of the DER form")
	}
	if life := ca.Certificate().NotAfter.Sub(now); life < 3650*24*time.Hour {
		t.Errorf("the CA lives %v", life)
	}
	back := must(pki.ParseCA(ca.CertPEM(), must(ca.KeyPEM())(t)))(t)
	if back.Hash() != ca.Hash() || back.ClusterID() != "blue-1" {
		t.Errorf("another CA came back, of %s", back.ClusterID())
	}
	csr := must(pki.NewCSR(must(pki.NewKey())(t)))(t)
	cert := must(back.Issue(csr, "n1", pki.RoleServer, time.Hour, now))(t)
	if err := cert.CheckSignatureFrom(ca.Certificate()); err != nil {
		t.Error(err)
	}
}

func TestParseCARefuses(t *testing.T) {
	a, b := newCluster(t, "a"), newCluster(t, "b")
	keyA, keyB := must(a.ca.KeyPEM())(t), must(b.ca.KeyPEM())(t)
	node := a.server("n1")
	nodePEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.Cert.Raw})
	for name, in := range map[string][2][]byte{
		"the key of another":    {a.ca.CertPEM(), keyB},
		"no key":                {a.ca.CertPEM(), nil},
		"no certificate":        {nil, keyA},
		"two certificates":      {append(a.ca.CertPEM(), b.ca.CertPEM()...), keyA},
		"swapped":               {keyA, a.ca.CertPEM()},
		"junk before":           {append([]byte("x\n"), a.ca.CertPEM()...), keyA},
		"junk after":            {append(a.ca.CertPEM(), 'x'), keyA},
		"a member's":            {nodePEM, keyA},
		"cut off":               {a.ca.CertPEM()[:200], keyA},
		"a block without bytes": {[]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), keyA},
	} {
		if _, err := pki.ParseCA(in[0], in[1]); conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewCARefuses(t *testing.T) {
	for _, id := range []string{"", "-a", "a-", "a.b", "a/b", "a b", "ä", strings.Repeat("a", 64)} {
		if _, err := pki.NewCA(id, time.Now()); conf.CodeOf(err) != conf.CodeInvalid {
			t.Errorf("%q: %v", id, err)
		}
	}
	_, err := pki.NewCA("a", time.Unix(0, 0))
	wantCode(t, err, conf.CodeInvalid)
	wantHint(t, err)
}

// The CSR brings a key; whatever else it says must not come back.
func TestIssueTakesOnlyTheKey(t *testing.T) {
	c := newCluster(t, "blue")
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	evil := must(url.Parse("holdfast://blue/server/leader"))(t)
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "leader", Organization: []string{"evil"}}, URIs: []*url.URL{evil},
		DNSNames: []string{"localhost"}, EmailAddresses: []string{"a@b"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, key))(t)
	now := time.Now()
	cert := must(c.ca.Issue(csr, "n1", pki.RoleSidecar, ttl, now))(t)
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "holdfast://blue/sidecar/n1" {
		t.Errorf("URIs %v", cert.URIs)
	}
	if len(cert.DNSNames)+len(cert.EmailAddresses)+len(cert.IPAddresses) > 0 || cert.Subject.String() != "CN=n1" {
		t.Errorf("names of the CSR came back: %v %v %v", cert.DNSNames, cert.EmailAddresses, cert.Subject)
	}
	if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.ExtKeyUsage) != 2 {
		t.Errorf("usages %v %v", cert.KeyUsage, cert.ExtKeyUsage)
	}
	if !cert.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Error("another key")
	}
	if d := now.Sub(cert.NotBefore); d < 48*time.Hour-time.Minute || d > 48*time.Hour+time.Minute {
		t.Errorf("backdated by %v", d)
	}
	if d := cert.NotAfter.Sub(now); d < ttl-time.Minute || d > ttl+time.Minute {
		t.Errorf("good for %v", d)
	}
	if cert.SerialNumber.BitLen() < 64 {
		t.Errorf("serial number %v", cert.SerialNumber)
	}
}

func TestIssueStaysWithinTheCA(t *testing.T) {
	now := time.Now()
	ca := must(pki.NewCA("blue", now))(t)
	csr := must(pki.NewCSR(must(pki.NewKey())(t)))(t)
	cert := must(ca.Issue(csr, "n1", pki.RoleServer, 100*365*24*time.Hour, now))(t)
	if !cert.NotAfter.Equal(ca.Certificate().NotAfter) || cert.NotBefore.Before(ca.Certificate().NotBefore) {
		t.Errorf("from %v to %v", cert.NotBefore, cert.NotAfter)
	}
	for name, at := range map[string]time.Time{"after its end": now.AddDate(11, 0, 0)} {
		_, err := ca.Issue(csr, "n1", pki.RoleServer, ttl, at)
		if conf.CodeOf(err) != conf.CodeInvalid || conf.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	c := newCluster(t, "blue")
	good := must(pki.NewCSR(must(pki.NewKey())(t)))(t)
	with := func(key crypto.Signer, err error) []byte {
		t.Helper()
		return must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, must(key, err)(t)))(t)
	}
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if _, err := c.ca.Issue(with(edKey, err), "n1", pki.RoleServer, ttl, time.Now()); err != nil {
		t.Errorf("Ed25519: %v", err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	rsaCSR := with(rsaKey, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384CSR := with(p384, err)
	for name, tc := range map[string]struct {
		csr  []byte
		node string
		role pki.Role
		ttl  time.Duration
		code conf.Code
	}{
		"forged signature": {forged, "n1", pki.RoleServer, ttl, conf.CodeInvalid},
		"RSA":              {rsaCSR, "n1", pki.RoleServer, ttl, conf.CodeInvalid},
		"P-384":            {p384CSR, "n1", pki.RoleServer, ttl, conf.CodeInvalid},
		"junk":             {[]byte("junk"), "n1", pki.RoleServer, ttl, conf.CodeMalformed},
		"nothing":          {nil, "n1", pki.RoleServer, ttl, conf.CodeMalformed},
		"huge":             {make([]byte, 1<<16), "n1", pki.RoleServer, ttl, conf.CodeTooLarge},
		"a path as id":     {good, "a/b", pki.RoleServer, ttl, conf.CodeInvalid},
		"no id":            {good, "", pki.RoleServer, ttl, conf.CodeInvalid},
		"dots as id":       {good, "..", pki.RoleServer, ttl, conf.CodeInvalid},
		"a query as id":    {good, "a?b", pki.RoleServer, ttl, conf.CodeInvalid},
		"unknown role":     {good, "n1", "admin", ttl, conf.CodeInvalid},
		"no time":          {good, "n1", pki.RoleServer, 0, conf.CodeInvalid},
	} {
		if _, err := c.ca.Issue(tc.csr, tc.node, tc.role, tc.ttl, time.Now()); conf.CodeOf(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}
