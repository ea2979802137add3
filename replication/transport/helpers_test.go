package transport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv/base"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// net/http waits half a second before it closes on a client that sends too much.
	os.Exit(base.NoLeaks(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")))
}

const (
	patience = base.Patience
	ttl      = 24 * time.Hour
)

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

// await polls a condition that no channel tells of.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	base.AwaitWithin(t, patience, what, cond)
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

// caKey is the private key of the CA, for certificates that it would never make.
func (c *cluster) caKey() *ecdsa.PrivateKey {
	block, _ := pem.Decode(must(c.ca.KeyPEM())(c.t))
	return must(x509.ParsePKCS8PrivateKey(block.Bytes))(c.t).(*ecdsa.PrivateKey)
}

// port is a Transport under test and what it has refused.
type port struct {
	*transport.Transport
	t     testing.TB
	layer *transport.RaftLayer

	mu      sync.Mutex
	refused []transport.Refused
	addrs   map[string]string // of other nodes
}

// clientOf calls q, whose address p learns by it.
func (p *port) clientOf(q *port) *http.Client {
	node := q.Identity().NodeID
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs[node] = q.Addr()
	return p.Client(node)
}

func start(t testing.TB, id *pki.Identity, change func(*transport.Options)) *port {
	t.Helper()
	p := &port{t: t, addrs: map[string]string{}}
	o := transport.Options{
		Identity: id, Listen: "127.0.0.1:0",
		OnRefused: func(r transport.Refused) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.refused = append(p.refused, r)
		},
		AddrOf: func(node string) (string, bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			addr, ok := p.addrs[node]
			return addr, ok
		},
	}
	if change != nil {
		change(&o)
	}
	p.Transport = must(transport.Open(o))(t)
	p.layer = p.RaftLayer()
	p.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p
}

// why waits for the first refusal since the last call and returns it.
func (p *port) why() transport.Refused {
	p.t.Helper()
	var r transport.Refused
	await(p.t, "a refusal", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.refused) == 0 {
			return false
		}
		r, p.refused = p.refused[0], p.refused[1:]
		return true
	})
	return r
}

// echo answers every connection of a layer with what it gets, and tells who came.
func echo(l *transport.RaftLayer) <-chan pki.Peer {
	peers := make(chan pki.Peer, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p, _ := transport.PeerOf(c)
			peers <- p
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return peers
}

// said sends a line over c and reads it back.
func said(t testing.TB, c net.Conn, line string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(line))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != line {
		t.Fatalf("%q came back as %q, %v", line, b, err)
	}
}

// closed waits until the other side has closed c; what it sends first is dropped.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
		t.Fatal("the connection stays open")
	}
}

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	c := must(net.DialTimeout("tcp", addr, patience))(t)
	t.Cleanup(func() { c.Close() })
	return c
}

// foreign is how a stranger dials: TLS that verifies nothing, with any certificate.
func foreign(cert *tls.Certificate, protos ...string) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: protos, MinVersion: tls.VersionTLS12}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return cfg
}

func certOf(id *pki.Identity) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{id.Cert.Raw}, PrivateKey: id.Key}
}

func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))(t)
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, string(must(io.ReadAll(resp.Body))(t))
}
