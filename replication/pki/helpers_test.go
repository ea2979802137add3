package pki_test

import (
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
)

const ttl = 24 * time.Hour

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t testing.TB, err error, code conf.Code) {
	t.Helper()
	if conf.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, conf.CodeOf(err), code)
	}
	if code != conf.CodeInternal && code != "" && err.Error() == "" {
		t.Fatalf("an error without a message: %#v", err)
	}
}

func wantHint(t testing.TB, err error) {
	t.Helper()
	if conf.HintOf(err) == "" {
		t.Fatalf("no way out is told with: %v", err)
	}
}

// cluster is a CA that makes identities.
type cluster struct {
	t  testing.TB
	id string
	ca *pki.CA
}

func newCluster(t testing.TB, id string) *cluster {
	t.Helper()
	return &cluster{t, id, must(pki.NewCA(id, time.Now()))(t)}
}

func (c *cluster) identity(node string, role pki.Role) *pki.Identity {
	c.t.Helper()
	return c.identityAt(node, role, ttl, time.Now())
}

func (c *cluster) identityAt(node string, role pki.Role, ttl time.Duration, now time.Time) *pki.Identity {
	c.t.Helper()
	key := must(pki.NewKey())(c.t)
	csr := must(pki.NewCSR(key))(c.t)
	cert := must(c.ca.Issue(csr, node, role, ttl, now))(c.t)
	return must(pki.NewIdentity(cert.Raw, key, [][]byte{c.ca.Certificate().Raw}))(c.t)
}

func (c *cluster) server(node string) *pki.Identity {
	return c.identity(node, pki.RoleServer)
}

func (c *cluster) sidecar(node string) *pki.Identity {
	return c.identity(node, pki.RoleSidecar)
}
